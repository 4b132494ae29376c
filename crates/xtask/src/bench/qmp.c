/* Sends a command to QEMU: connect, greeting, qmp_capabilities, query-status, print, exit.
 *
 * With a number as second argument it sends the command that many times more and prints the duration in microseconds.
 * Out-of-band execution is then enabled, which makes each command cheaper for QEMU. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NEGOTIATE "{\"execute\":\"qmp_capabilities\"}\n"
#define NEGOTIATE_OOB "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n"
#define ASK "{\"execute\":\"query-status\"}\n"

static char line[1 << 16];

/* Reads lines until one contains `wanted`; returns whether there was one. */
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

static long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int main(int count, char **arguments) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count < 2 || count > 3 || strlen(arguments[1]) >= sizeof address.sun_path) return 2;
    strcpy(address.sun_path, arguments[1]);

    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *monitor = socket_fd < 0 ? NULL : fdopen(socket_fd, "r");
    if (!monitor || connect(socket_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        !await(monitor, "\"QMP\"") || !ask(socket_fd, monitor, count < 3 ? NEGOTIATE : NEGOTIATE_OOB) ||
        !ask(socket_fd, monitor, ASK)) {
        perror(arguments[1]);
        return 1;
    }
    fputs(line, stdout);
    if (count < 3) return 0;

    long start = microseconds();
    for (long left = atol(arguments[2]); left > 0; left--) {
        if (!ask(socket_fd, monitor, ASK)) return 1;
    }
    printf("%ld\n", microseconds() - start);
    return 0;
}
