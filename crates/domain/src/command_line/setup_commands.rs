//! What `start` makes before it runs QEMU, as commands of a POSIX shell, for those who run a command line themselves.

use std::path::Path;

use crate::storage::ImagePlan;
use crate::text::quote;
use crate::vm::RunPaths;

/// Returns the commands that make the files of a run: its folders, the pipe of the flight recorder, and its logs.
pub fn run_setup_commands(paths: &RunPaths) -> Vec<String> {
    let fifo = word(&paths.recorder_fifo());
    vec![
        format!("mkdir -p {} {}", word(&paths.sockets), word(&paths.records)),
        unless_there(&paths.recorder_fifo(), &format!("mkfifo {fifo}")),
        // Made here, because QEMU would not make the one and would let others read the other.
        format!("touch {} {}", word(&paths.recorder_log()), word(&paths.serial_log())),
    ]
}

/// Returns the commands that make an image; `backing_format` is that of what it is laid over, if that is known.
pub fn image_setup_commands(plan: &ImagePlan, backing_format: Option<&str>) -> Vec<String> {
    let backing = plan.backing.as_ref().map(|backing| {
        let format = backing_format.map(|format| format!(" -F {}", quote(format)));
        format!(" -b {}{}", word(&backing.file), format.unwrap_or_default())
    });
    let size = plan.size.map(|size| format!(" {}", size.bytes()));
    let (backing, size) = (backing.unwrap_or_default(), size.unwrap_or_default());
    let create = format!("qemu-img create -q -f {}{backing} {}{size}", quote(&plan.format), word(&plan.path));
    vec![make_parent(&plan.path), unless_there(&plan.path, &create)]
}

/// Returns the commands that make a qcow2 with the content of another image.
pub fn copy_setup_commands(from: &Path, from_format: &str, to: &Path) -> Vec<String> {
    let convert = format!("qemu-img convert -q -f {} -O qcow2 {} {}", quote(from_format), word(from), word(to));
    vec![make_parent(to), unless_there(to, &convert)]
}

/// A line may be pasted twice, and `qemu-img` would make an empty image of a disk that is in use since.
fn unless_there(file: &Path, command: &str) -> String {
    format!("{{ [ -e {} ] || {command}; }}", word(file))
}

fn make_parent(file: &Path) -> String {
    format!("mkdir -p {}", word(file.parent().unwrap_or(Path::new("/"))))
}

/// The paths are on the command line, too, which refuses those that are not UTF-8.
fn word(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ByteSize;
    use crate::storage::Backing;
    use crate::vm::BootNumber;

    #[test]
    fn test_run_setup_commands_path_with_a_space_stays_one_word() {
        let paths = RunPaths::new(Path::new("/r/w"), Path::new("/s s/w"), BootNumber(2));

        let made = run_setup_commands(&paths);

        let fifo = "'/s s/w/boot-2/events.in'";
        let expected = [
            "mkdir -p /r/w/b2 '/s s/w/boot-2'".to_owned(),
            format!("{{ [ -e {fifo} ] || mkfifo {fifo}; }}"),
            "touch '/s s/w/boot-2/events.out' '/s s/w/boot-2/serial.log'".to_owned(),
        ];
        assert_eq!(made, expected);
    }

    #[test]
    fn test_image_setup_commands_overlay_names_what_it_is_laid_over() {
        let plan = ImagePlan {
            path: "/d/web/root.qcow2".into(),
            format: "qcow2".to_owned(),
            size: Some(ByteSize::from_mib(1)),
            backing: Some(Backing { file: "/b/a,b.img".into(), format: None }),
        };

        let made = image_setup_commands(&plan, Some("raw"));

        let create = "qemu-img create -q -f qcow2 -b /b/a,b.img -F raw /d/web/root.qcow2 1048576";
        assert_eq!(made, ["mkdir -p /d/web".to_owned(), format!("{{ [ -e /d/web/root.qcow2 ] || {create}; }}")]);
    }

    #[test]
    fn test_copy_setup_commands_variables_are_a_qcow2() {
        let made = copy_setup_commands(Path::new("/fw/vars.fd"), "raw", Path::new("/d/web/uefi-vars.qcow2"));

        let convert = "qemu-img convert -q -f raw -O qcow2 /fw/vars.fd /d/web/uefi-vars.qcow2";
        assert_eq!(made[1], format!("{{ [ -e /d/web/uefi-vars.qcow2 ] || {convert}; }}"));
    }
}
