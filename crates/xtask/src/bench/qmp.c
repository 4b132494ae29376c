/* The least that asks QEMU something: connect, greeting, qmp_capabilities, query-status, print, exit. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char line[1 << 16];

/* Reads lines up to one that holds `wanted`; returns whether it came. */
static int await(FILE *monitor, const char *wanted) {
    while (fgets(line, sizeof line, monitor)) {
        if (strstr(line, wanted)) return 1;
        if (strstr(line, "\"error\"")) return 0;
    }
    return 0;
}

static int ask(int socket, FILE *monitor, const char *command) {
    size_t length = strlen(command);
    return write(socket, command, length) == (ssize_t)length && await(monitor, "\"return\"");
}

int main(int count, char **words) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count != 2 || strlen(words[1]) >= sizeof address.sun_path) return 2;
    strcpy(address.sun_path, words[1]);

    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *monitor = socket_fd < 0 ? NULL : fdopen(socket_fd, "r");
    if (!monitor || connect(socket_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        !await(monitor, "\"QMP\"") || !ask(socket_fd, monitor, "{\"execute\":\"qmp_capabilities\"}\n") ||
        !ask(socket_fd, monitor, "{\"execute\":\"query-status\"}\n")) {
        perror(words[1]);
        return 1;
    }
    fputs(line, stdout);
    return 0;
}
