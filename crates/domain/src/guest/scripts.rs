//! The shell scripts that run in the guest.
//!
//! They use builtins of a POSIX shell as far as these go: each program that is started costs an emulated guest some 20 ms.

/// The script that becomes a command.
///
/// Its arguments: the nonce, the number of the port set or nothing, the user or nothing, the directory or nothing, the
/// streams (`i`: with standard input, `m`: standard error is merged, `t`: on a terminal, `d`: detached, `s`: those of the
/// shell itself; `u`: the shell is of the user already), the `PATH` of the command or nothing, a script that exports its variables, the command line for a terminal or nothing, the line for the
/// record of a detached command or nothing, the command or, on a terminal, nothing.
///
/// What has to outlive the export is in the positional parameters, as the names of variables are those of the user. The home
/// directory of root is read from the first line of its file: the libraries that look users up take as long as a program.
pub(super) const START: &str = r#"
id=$1 n=$2 user=$3 dir=$4 how=$5 path=${6:-$PATH} variables=$7 line=$8 about=$9
shift 9
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
u=
[ -n "$user" ] || IFS=: read -r u _ _ _ _ HOME _ 2>/dev/null </etc/passwd
if [ "$u" != root ]; then
    eval "HOME=~$name"
    [ "$HOME" != "~$name" ] || { [ -z "$user" ] || fail no-user 125; HOME=/; }
fi
export HOME USER="$name" LOGNAME="$name"
if [ -n "$dir" ]; then
    cd -- "$HOME" 2>/dev/null
    cd -- "$dir" 2>/dev/null || fail no-directory 125
else
    cd -- "$HOME" 2>/dev/null || cd /
fi
if [ "$#" != 0 ]; then
    case $1 in
    */*) found=$1 ;;
    *) find "$1" "$path" ;;
    esac
    [ -n "$found" ] && [ -e "$found" ] || fail not-found 127
    [ -x "$found" ] && [ ! -d "$found" ] || fail not-executable 126
fi
shell=/bin/sh
case $how in
*t*)
    while IFS=: read -r u _ _ _ _ _ s; do
        [ "$u" != "$name" ] || shell=${s:-$shell}
    done </etc/passwd
    find script "$PATH"
    [ -x "$found" ] || fail no-terminal 125
    set -- "$found" -qefc "$line" /dev/null
    ;;
esac
case $how in
*u*) user= ;;
esac
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
record=
case $how in
*d*)
    for top in /var/lib/maqet-exec /run/maqet-exec; do
        mkdir -p -m 700 "$top" 2>/dev/null && mkdir "$top/$id" 2>/dev/null || continue
        record=$top/$id
        read -r boot </proc/sys/kernel/random/boot_id
        printf '%s\n' "$boot" >"$record/boot"
        printf '%s\n' "$about" >"$record/about" && break
        rm -rf -- "$record"
        record=
    done
    [ -n "$record" ] || fail no-record 125
    exec 3</dev/null 4>>"$record/out"
    case $how in
    *m*) exec 5>&4 ;;
    *) exec 5>>"$record/err" ;;
    esac
    set -- /bin/sh -c "$line" maqet-detached "$record" "$@"
    ;;
esac
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
case $how in
*s*)
    exec 3<&0 4>&1 5>&2
    case $how in
    *m*) exec 5>&4 ;;
    esac
    case $how in
    *i*) ;;
    *) exec 3</dev/null ;;
    esac
    ;;
esac
unset SHELL
set -- "$id" "$n" "$how" "$variables" "$shell" "${record:-$pid}" "$@"
eval "$4"
export MAQET_EXEC="$1"
case $3 in
*d*)
    (
        shift 6
        exec "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&-
    ) &
    IFS=' '
    read -r stat <"/proc/$!/stat"
    record=$6
    set -- ${stat##*) }
    echo "$! ${20}" >"$record/process"
    exit
    ;;
esac
case $3 in
*s*) echo "$1 $6" >&2 ;;
*)
    [ -n "$2" ] || { shift 6; exec "$@"; }
    echo "$1" >&4
    case $3 in
    *m*) ;;
    *) echo "$1" >&5 ;;
    esac
    ;;
esac
case $3 in
*t*) export MAQET_SHELL="${SHELL:-$5}" SHELL=/bin/sh ;;
esac
shift 6
exec "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&-
"#;

/// Where records of detached commands are: the first directory that can be written. [`START`] has them, too.
pub(super) const RECORD_DIRECTORIES: &str = "/var/lib/maqet-exec /run/maqet-exec";

/// Runs a detached command, and records how it exits; signals to its process group end only the command, and what the
/// shell says about that is not part of its output.
///
/// Its arguments: the record, the command.
pub(super) const RUN_DETACHED: &str = r#"
trap : HUP INT TERM
exec 3>&2 2>/dev/null
(
    shift
    exec "$@" 2>&3 3>&-
)
echo "$?" >"$1/exit"
"#;

/// Sends a signal to a process group; to a process where there is no such group, as without setsid(1). Exits with 3 if the
/// process itself had exited before.
///
/// With a nonce, to every process that was started with it except this one, which is script(1) and writes about SIGTERM. A
/// stopped process does not act on a signal before it is continued.
///
/// Its arguments: the signal, the process, the nonce of a command on a terminal or nothing.
pub(super) const SIGNAL: &str = r#"
kill -s 0 "$2" 2>/dev/null && code=0 || code=3
found=
if [ -n "$3" ]; then
    for f in $(grep -ls "MAQET_EXEC=$3" /proc/[0-9]*/environ); do
        f=${f#/proc/}
        f=${f%%/*}
        [ "$f" != "$2" ] || continue
        found=1
        kill -s "$1" "$f"
        kill -s CONT "$f"
    done
fi
if [ -z "$found" ]; then
    kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2"
    kill -s CONT -- "-$2" 2>/dev/null || kill -s CONT "$2"
fi
exit "$code"
"#;

/// What script(1) runs by a shell on the new terminal, before it becomes the command: it sets the size, and the variables
/// that script(1) itself needs otherwise.
pub(super) const ON_TERMINAL: &str = "SHELL=$MAQET_SHELL; export SHELL; unset MAQET_SHELL; stty";

/// Sets the size of the terminal of a command: of the first process with its nonce that has one.
///
/// Its arguments: the nonce, the rows, the columns.
pub(super) const RESIZE: &str = r#"
for f in $(grep -ls "MAQET_EXEC=$1" /proc/[0-9]*/environ); do
    f=${f#/proc/}
    terminal=$(readlink "/proc/${f%%/*}/fd/0")
    case $terminal in
    /dev/pts/*)
        stty -F "$terminal" rows "$2" cols "$3"
        exit
        ;;
    esac
done
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
