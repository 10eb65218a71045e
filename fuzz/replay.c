/* SPDX-License-Identifier: Apache-2.0
 * Runs a fuzz target once over every file of the directories named: the corpus as a regression
 * test. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>

#include "base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "no corpus directory %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            if (e->d_name[0] == '.') {
                continue;
            }
            SB_CLEANUP(buf) struct sb_buf buf;
            sb_buf_init(&buf, 16 << 20);
            if (sb_read_file(dirfd(dir), e->d_name, &buf, NULL) == 0) {
                LLVMFuzzerTestOneInput((const uint8_t *)(buf.data ? buf.data : ""), buf.len);
                count++;
            }
        }
        closedir(dir);
    }
    printf("%zu inputs\n", count);
    return count == 0;
}
