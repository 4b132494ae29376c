//! The scripts that a guest runs to receive and to send.

use super::{CopyFilter, Nonce, SourceFacts};

/// Receives a file or a directory.
///
/// Its arguments: `file` or `tree`, the target, the name in a directory or nothing, the permissions of a file, its time or
/// nothing, `p` to keep times and permissions and `v` to verify, the file with the input or nothing.
///
/// Temporary names have the boot of the guest and end with the ID of the copy, which every process of it has in its environment: the
/// others of this boot are those of copies that were killed. Those of other boots may be of another machine that shares the
/// directory. A file system without hard links, such as FAT, gets copies instead of them.
const RECEIVE: &str = r#"
kind=$1 dst=$2 name=$3 mode=$4 time=$5 how=$6 input=$7
t=
fail() { [ -z "$2" ] || echo "$2" >&2; exit "$1"; }
end() { [ -z "$t" ] || rm -rf -- "$t"; [ -z "$input" ] || rm -rf -- "${input%/*}"; }
trap 'exit 143' HUP INT TERM
trap end EXIT
[ -z "$input" ] || exec <"$input"
[ -n "$dst" ] || dst=.
if [ -d "$dst" ]; then
    [ -z "$name" ] || dst=${dst%/}/$name
elif [ "$kind" = tree ]; then
    while [ "${dst%/}" != "$dst" ]; do dst=${dst%/}; done
else
    [ "${dst%/}" = "$dst" ] || fail 42
fi
[ ! -L "$dst" ] || dst=$(readlink -f -- "$dst") || fail 42
case $dst in
*/*) dir=${dst%/*}/ ;;
*) dir=./ ;;
esac
[ -d "$dir" ] || fail 42
dst=$dir${dst##*/}
if [ "$kind" = tree ]; then
    [ ! -e "$dst" ] || [ -d "$dst" ] || fail 43
    [ ! -d "$dst" ] || dir=${dst%/}/
    command -v tar >/dev/null || fail 44
else
    [ ! -e "$dst" ] || [ -f "$dst" ] || fail 43
fi
case $how in *v*) command -v sha256sum >/dev/null || fail 48 ;; esac
boot=
read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id
part=$dir.maqet-part.${boot%%-*}
for old in "$dir".maqet-part.*; do
    [ -e "$old" ] || continue
    case $old in
    "$part".*) ! grep -qs "MAQET_COPY=${old##*.}" /proc/[0-9]*/environ || continue ;;
    *) [ -n "$(find "$old" -prune -mmin +60 2>/dev/null)" ] || continue ;;
    esac
    rm -rf -- "$old"
done
umask 077
t=$part.$MAQET_COPY
if [ "$kind" = file ]; then
    cat >"$t" || fail 1
    set -f
    set -- $(tail -c 119 -- "$t" 2>/dev/null)
    [ "$1" = "$MAQET_COPY" ] || fail 45
    dd of="$t" bs=1 seek="$2" count=0 2>/dev/null || fail 1 "cannot cut the file"
    case $how in
    *v*)
        sum=$(sha256sum <"$t") || fail 1
        [ "${sum%% *}" = "$3" ] || fail 46
        ;;
    esac
    case $how in
    *p*) ;;
    *)
        own=
        [ ! -f "$dst" ] || own=$(stat -c '%a %u:%g' -- "$dst" 2>/dev/null)
        if [ -n "$own" ]; then
            mode=${own% *}
            while [ ${#mode} -gt 3 ]; do mode=${mode#?}; done
            chown "${own#* }" -- "$t" 2>/dev/null
        fi
        ;;
    esac
    [ "$mode" = 600 ] || chmod "$mode" -- "$t" || fail 1
    case $how in *p*) touch -d "@$time" -- "$t" || fail 1 ;; esac
    sync -- "$t" 2>/dev/null || sync
    mv -f -- "$t" "$dst" || fail 1
else
    mkdir -- "$t" || fail 1
    case $how in
    *p*) tar -xpf - -C "$t" ;;
    *) tar -xpmf - -C "$t" ;;
    esac || fail 1
    [ -f "$t/end" ] || fail 45
    case $how in
    *v*) [ ! -s "$t/sums" ] || (cd -- "$t/d" && sha256sum -c ../sums >/dev/null) || fail 46 ;;
    esac
    sync -f -- "$t" 2>/dev/null || sync
    if [ -d "$dst" ]; then
        umask 0
        link=l
        ln -- "$t/end" "$t/link" 2>/dev/null || link=
        case $how in
        *p*) cp "-a${link}f" -- "$t/d/." "$dst/" ;;
        *) cp "-RP${link}f" -- "$t/d/." "$dst/" ;;
        esac || fail 1
    else
        mv -- "$t/d" "$dst" || fail 1
    fi
fi
"#;

/// Sends a file or a directory.
///
/// Its arguments: the source, `r` for directories and `v` to verify, the file for the output or nothing, options of tar.
const SEND: &str = r#"
src=$1 how=$2 output=$3
shift 3
fail() { [ -z "$2" ] || echo "$2" >&2; exit "$1"; }
[ -z "$output" ] || exec >"$output"
[ -n "$src" ] || src=.
case $how in *v*) command -v sha256sum >/dev/null || fail 48 ;; esac
if [ -d "$src" ]; then
    case $how in *r*) ;; *) fail 41 ;; esac
    command -v tar >/dev/null || fail 44
    cd -- "$src" || fail 1
    if [ $# != 0 ]; then
        case $(tar --version 2>/dev/null) in
        *GNU*) set -- --no-anchored --wildcards --no-wildcards-match-slash "$@" ;;
        *) shift $# ;;
        esac
    fi
    echo directory
    tar -cf - "$@" .
    code=$?
    case $how in *v*) find . -type f -exec sha256sum -- {} + || fail 1 ;; esac
    exit $code
elif [ -f "$src" ]; then
    facts=$(stat -L -c '%s %a %Y' -- "$src" 2>/dev/null) || facts='- 644 0'
    sum=-
    case $how in
    *v*)
        sum=$(sha256sum <"$src") || fail 1
        sum=${sum%% *}
        ;;
    esac
    exec <"$src"
    echo "file $facts $sum"
    exec cat
elif [ -e "$src" ]; then
    fail 47
else
    fail 40
fi
"#;

/// Makes a private file for what the agent writes and reads, as it cannot pass on a stream.
const STAGE: &str = r#"
umask 077
for dir in /var/tmp /tmp; do
    for old in "$dir"/maqet-copy.*; do
        [ -e "$old" ] && [ -n "$(find "$old" -prune -user root -mmin +1440 2>/dev/null)" ] && rm -rf -- "$old"
    done
    dir=$dir/maqet-copy.$MAQET_COPY
    mkdir -- "$dir" 2>/dev/null || continue
    : >"$dir/data" || exit 1
    echo "$dir/data"
    exit 0
done
echo "cannot write to /var/tmp and /tmp" >&2
exit 1
"#;

/// The variable with the ID of a copy.
const ID_VARIABLE: &str = "MAQET_COPY";

/// What is copied into a guest, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestTarget<'a> {
    /// The target.
    pub path: &'a str,
    /// The name of the source, under which it is copied into a directory; its content is, if `None`.
    pub name: Option<&'a str>,
    /// What is copied.
    pub source: &'a SourceFacts,
    /// Whether times and permissions are those of the source.
    pub keeps: bool,
    /// Whether checksums are compared.
    pub is_verified: bool,
    /// The file in the guest with the input, where it has no standard input.
    pub input: Option<&'a str>,
}

impl GuestTarget<'_> {
    /// Returns the script that receives it.
    pub fn script(&self, id: &Nonce) -> GuestScript {
        let (kind, mode, time) = match self.source {
            SourceFacts::File { mode, modified, .. } => ("file", format!("{mode:o}"), modified.to_string()),
            SourceFacts::Directory => ("tree", String::new(), String::new()),
        };
        let how = letters(&[(self.keeps, 'p'), (self.is_verified, 'v')]);
        let name = self.name.unwrap_or_default();
        let args = [kind, self.path, name, &mode, &time, &how, self.input.unwrap_or_default()];
        GuestScript::new(id, RECEIVE, "maqet-receive", args)
    }
}

/// What is copied from a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSource<'a> {
    /// The source.
    pub path: &'a str,
    /// Whether it may be a directory.
    pub is_recursive: bool,
    /// Whether checksums are compared.
    pub is_verified: bool,
    /// What is left out.
    pub filter: &'a CopyFilter,
    /// The file in the guest for the output, where it has no standard output.
    pub output: Option<&'a str>,
}

impl GuestSource<'_> {
    /// Returns the script that sends it.
    pub fn script(&self, id: &Nonce) -> GuestScript {
        let how = letters(&[(self.is_recursive, 'r'), (self.is_verified, 'v')]);
        let options = self.filter.tar_options();
        let args = [self.path, &how, self.output.unwrap_or_default()];
        GuestScript::new(id, SEND, "maqet-send", args.into_iter().chain(options.iter().map(String::as_str)))
    }
}

/// A script for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestScript {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The variable that every process of it has.
    pub variable: String,
}

impl GuestScript {
    fn new<'a>(id: &Nonce, script: &str, name: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        let fixed = ["sh", "-c", script, name].map(str::to_owned);
        Self {
            args: fixed.into_iter().chain(args.into_iter().map(str::to_owned)).collect(),
            variable: format!("{ID_VARIABLE}={id}"),
        }
    }

    /// Returns the script that makes a private file where there is no stream, and prints its path.
    pub fn staging(id: &Nonce) -> Self {
        Self::new(id, STAGE, "maqet-stage", [])
    }

    /// Returns the script that removes that file.
    pub fn removal(id: &Nonce, path: &str) -> Self {
        Self::new(id, "rm -rf -- \"${1%/*}\"", "maqet-unstage", [path])
    }
}

fn letters(flags: &[(bool, char)]) -> String {
    flags.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| *letter).collect()
}

/// Why a guest did not receive or send, as the exit code of its script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFailure {
    /// The source does not exist.
    NotFound,
    /// The source is a directory, which was not requested.
    IsDirectory,
    /// The directory of the target does not exist.
    NoParent,
    /// The target exists and is of another kind.
    Conflict,
    /// The guest has no tar(1).
    NoTar,
    /// The end of the content did not arrive.
    Incomplete,
    /// A checksum differs.
    Mismatch,
    /// The source is neither a file nor a directory.
    Unsupported,
    /// The guest has no sha256sum(1).
    NoChecksum,
}

impl CopyFailure {
    /// Returns the failure that an exit code stands for; `None` if a program of the guest failed.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            40 => Self::NotFound,
            41 => Self::IsDirectory,
            42 => Self::NoParent,
            43 => Self::Conflict,
            44 => Self::NoTar,
            45 => Self::Incomplete,
            46 => Self::Mismatch,
            47 => Self::Unsupported,
            48 => Self::NoChecksum,
            _ => return None,
        })
    }
}
