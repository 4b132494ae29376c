/* Writes a small file durably: write, fsync, rename. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    char half[4096];
    char content[300];
    if (count != 2 || snprintf(half, sizeof half, "%s.half", arguments[1]) >= (int)sizeof half) return 2;
    memset(content, 'x', sizeof content);

    int file = open(half, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || write(file, content, sizeof content) != (ssize_t)sizeof content || fsync(file) != 0 ||
        close(file) != 0 || rename(half, arguments[1]) != 0) {
        perror(arguments[1]);
        return 1;
    }
    return 0;
}
