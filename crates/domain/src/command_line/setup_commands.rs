//! What `start` creates before it runs QEMU, as shell commands, for running a command line by hand.

use std::path::Path;

use crate::storage::ImagePlan;
use crate::text::quote;
use crate::vm::RunPaths;

/// Returns the commands that create the files of a run: its folders, its FIFOs, and its logs.
pub fn run_setup_commands(paths: &RunPaths) -> Vec<String> {
    let fifo = |path: &Path| unless_exists(path, &format!("mkfifo {}", quoted(path)));
    vec![
        format!("mkdir -p {} {}", quoted(&paths.sockets), quoted(&paths.records)),
        fifo(&paths.qmp_log_fifo()),
        fifo(&paths.serial_input()),
        format!("ln -sfn /dev/null {}", quoted(&paths.serial_output())),
        // QEMU would not create the first, and would create the second readable by others.
        format!("touch {} {}", quoted(&paths.qmp_log()), quoted(&paths.serial_log())),
    ]
}

/// Returns the commands that create an image; `backing_format` is the format of its backing image, if known.
pub fn image_setup_commands(plan: &ImagePlan, backing_format: Option<&str>) -> Vec<String> {
    vec![mkdir_parent(&plan.path), unless_exists(&plan.path, &create(plan, backing_format))]
}

fn create(plan: &ImagePlan, backing_format: Option<&str>) -> String {
    let backing = plan.backing.as_ref().map(|backing| {
        let format = backing_format.or(backing.format.as_deref()).map(|format| format!(" -F {}", quote(format)));
        format!(" -b {}{}", quoted(&backing.file), format.unwrap_or_default())
    });
    let backing = backing.unwrap_or_default();
    let size = plan.size.map(|size| format!(" {}", size.bytes())).unwrap_or_default();
    format!("qemu-img create -q -f {}{backing} {}{size}", quote(&plan.format), quoted(&plan.path))
}

/// Returns the commands that create the overlay of a run, which must be empty.
pub fn overlay_setup_commands(plan: &ImagePlan) -> Vec<String> {
    vec![mkdir_parent(&plan.path), create(plan, None)]
}

/// Returns the commands that create a qcow2 image with the content of another image.
pub fn copy_setup_commands(from: &Path, from_format: &str, to: &Path) -> Vec<String> {
    let convert = format!("qemu-img convert -q -f {} -O qcow2 {} {}", quote(from_format), quoted(from), quoted(to));
    vec![mkdir_parent(to), unless_exists(to, &convert)]
}

/// The commands may be pasted twice, and `qemu-img` would overwrite the image with an empty one.
fn unless_exists(file: &Path, command: &str) -> String {
    format!("{{ [ -e {} ] || {command}; }}", quoted(file))
}

fn mkdir_parent(file: &Path) -> String {
    format!("mkdir -p {}", quoted(file.parent().unwrap_or(Path::new("/"))))
}

/// Quotes a path; the command line has refused those that are not valid UTF-8.
fn quoted(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ByteSize;
    use crate::storage::Backing;
    use crate::vm::BootNumber;

    #[test]
    fn test_run_setup_commands_quote_paths() {
        let paths = RunPaths::new(Path::new("/r/w"), Path::new("/s s/w"), BootNumber(2));

        let commands = run_setup_commands(&paths);

        let fifo = "'/s s/w/boot-2/events.in'";
        let expected = [
            "mkdir -p /r/w/b2 '/s s/w/boot-2'".to_owned(),
            format!("{{ [ -e {fifo} ] || mkfifo {fifo}; }}"),
            "{ [ -e /r/w/b2/serial.in ] || mkfifo /r/w/b2/serial.in; }".to_owned(),
            "ln -sfn /dev/null /r/w/b2/serial.out".to_owned(),
            "touch '/s s/w/boot-2/events.out' '/s s/w/boot-2/serial.log'".to_owned(),
        ];
        assert_eq!(commands, expected);
    }

    #[test]
    fn test_image_setup_commands_overlay_names_its_backing() {
        let plan = ImagePlan {
            path: "/d/web/root.qcow2".into(),
            format: "qcow2".to_owned(),
            size: Some(ByteSize::from_mib(1)),
            backing: Some(Backing { file: "/b/a,b.img".into(), format: None }),
        };

        let commands = image_setup_commands(&plan, Some("raw"));

        let create = "qemu-img create -q -f qcow2 -b /b/a,b.img -F raw /d/web/root.qcow2 1048576";
        assert_eq!(commands, ["mkdir -p /d/web".to_owned(), format!("{{ [ -e /d/web/root.qcow2 ] || {create}; }}")]);
    }

    #[test]
    fn test_copy_setup_commands_convert_to_qcow2() {
        let commands = copy_setup_commands(Path::new("/fw/vars.fd"), "raw", Path::new("/d/web/uefi-vars.qcow2"));

        let convert = "qemu-img convert -q -f raw -O qcow2 /fw/vars.fd /d/web/uefi-vars.qcow2";
        assert_eq!(commands[1], format!("{{ [ -e /d/web/uefi-vars.qcow2 ] || {convert}; }}"));
    }
}
