//! The shell scripts that run in the guest.
//!
//! They use builtins of a POSIX shell as far as these go: each program that is started costs an emulated guest some 20 ms.

/// The script that becomes a command.
///
/// Its arguments: the nonce, the number of the port set or nothing, the user or nothing, the directory or nothing, the
/// streams (`i`: with standard input, `m`: standard error is merged), the `PATH` of the command or nothing, a script that
/// exports its variables, the command.
///
/// What has to outlive the export is in the positional parameters, as the names of variables are those of the user.
pub(super) const START: &str = r#"
id=$1 n=$2 user=$3 dir=$4 how=$5 path=${6:-$PATH} variables=$7
shift 7
fail() { echo "$id $1" >&2; exit "$2"; }
set -f
find() {
    found=
    IFS=:
    for d in $2; do
        [ -f "${d:-.}/$1" ] || continue
        found=${d:-.}/$1
        [ ! -x "$found" ] || break
    done
    unset IFS
}
name=${user:-root}
eval "HOME=~$name"
[ "$HOME" != "~$name" ] || { [ -z "$user" ] || fail no-user 125; HOME=/; }
export HOME USER="$name" LOGNAME="$name"
if [ -n "$dir" ]; then
    cd -- "$HOME" 2>/dev/null
    cd -- "$dir" 2>/dev/null || fail no-directory 125
else
    cd -- "$HOME" 2>/dev/null || cd /
fi
case $1 in
*/*) found=$1 ;;
*) find "$1" "$path" ;;
esac
[ -n "$found" ] && [ -e "$found" ] || fail not-found 127
[ -x "$found" ] && [ ! -d "$found" ] || fail not-executable 126
if [ -n "$user" ]; then
    find setpriv "$PATH"
    setpriv=$found
    find runuser "$PATH"
    if [ -x "$setpriv" ] && [ -x "$found" ]; then
        g=$(id -g "$user") || fail no-user 125
        set -- "$setpriv" --reuid "$user" --regid "$g" --init-groups -- "$@"
    else
        find su "$PATH"
        set -- "$found" -s /bin/sh "$user" -c 'exec "$0" "$@"' -- "$@"
    fi
fi
find setsid "$PATH"
[ ! -x "$found" ] || set -- "$found" "$@"
port() {
    port=/dev/virtio-ports/org.maqet.$1.$n
    [ ! -c "$port" ] || return
    set +f
    for v in /sys/class/virtio-ports/*; do
        read -r port <"$v/name" && [ "$port" = "org.maqet.$1.$n" ] || continue
        port=/dev/${v##*/}
        [ ! -c "$port" ] || return
    done
    fail no-port 125
}
if [ -n "$n" ]; then
    port out
    exec 4>"$port"
    case $how in
    *m*) exec 5>&4 ;;
    *)
        port err
        exec 5>"$port"
        ;;
    esac
    case $how in
    *i*)
        port in
        exec 3<"$port"
        ;;
    *) exec 3</dev/null ;;
    esac
fi
set -- "$id" "$n" "$how" "$variables" "$@"
eval "$4"
export MAQET_EXEC="$1"
[ -n "$2" ] || { shift 4; exec "$@"; }
echo "$1" >&4
case $3 in
*m*) ;;
*) echo "$1" >&5 ;;
esac
shift 4
exec "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&-
"#;

/// Sends a signal to a process group; to a process where there is no such group, as without setsid(1). Exits with 3 if the
/// process itself had exited before.
///
/// A stopped process does not act on a signal before it is continued.
pub(super) const SIGNAL: &str = r#"
kill -s 0 "$2" 2>/dev/null && code=0 || code=3
kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2"
kill -s CONT -- "-$2" 2>/dev/null || kill -s CONT "$2"
exit "$code"
"#;

/// Kills what is left of a command, in whatever group: every process that was started with its nonce, and those that have
/// its output open where they cleared their environment.
///
/// Its arguments: the nonce, the number of the port set or nothing.
pub(super) const SWEEP: &str = r#"
for f in $(grep -ls "MAQET_EXEC=$1" /proc/[0-9]*/environ); do
    f=${f#/proc/}
    [ "${f%%/*}" = $$ ] || kill -s KILL "${f%%/*}"
done
[ -n "$2" ] || exit 0
for v in /sys/class/virtio-ports/*; do
    read -r name <"$v/name" || continue
    case $name in
    "org.maqet.out.$2" | "org.maqet.err.$2") ;;
    *) continue ;;
    esac
    for f in /proc/[0-9]*/fd/*; do
        [ "$f" -ef "/dev/${v##*/}" ] || continue
        f=${f#/proc/}
        kill -s KILL "${f%%/*}"
    done
done
"#;
