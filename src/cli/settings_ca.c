/* SPDX-License-Identifier: Apache-2.0
 * The setting tls.extra-ca: certificates of a file, read by sbx-proxy (proxy/describe.h) and kept
 * as a copy, so that nobody who can change the file changes what is trusted. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "cli/settings.h"

enum { FILE_MAX = 1 << 20, REPLY_MAX = 4 << 20 };

static _Noreturn void exec_reader(const char *program, int in, int out)
{
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execl(program, "sbx-proxy", "--describe", (char *)NULL);
    _exit(127);
}

/* Lets the proxy program read the PEM; `reply` is what it prints. */
static int run_reader(const struct sb_buf *pem, struct sb_buf *reply, struct sb_err **err)
{
    SB_CLEANUP(free) char *program = NULL;
    int r = sb_path_helper("sbx-proxy", &program, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int in = sb_memfd("sbx-certificates", pem->data ? pem->data : "", pem->len);
    int ends[2];
    if (in < 0 || pipe2(ends, O_CLOEXEC) < 0) {
        return sb_fail_errno(err, in < 0 ? -in : errno, "read certificates");
    }
    SB_CLEANUP(fd) int out = ends[0];
    pid_t pid = fork();
    if (pid == 0) {
        exec_reader(program, in, ends[1]);
    }
    close(ends[1]);
    r = pid < 0 ? -errno : sb_read_fd(out, reply);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return r < 0 ? sb_fail_errno(err, -r, "read certificates") : 0;
}

int settings_read_ca(const char *path, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf pem;
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&pem, FILE_MAX);
    sb_buf_init(&text, REPLY_MAX);
    int r = sb_read_file(AT_FDCWD, path, &pem, err);
    r = r < 0 ? r : run_reader(&pem, &text, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json) json_t *reply = json_loadb(text.len ? text.data : "", text.len, 0, NULL);
    if (!json_is_true(json_object_get(reply, "ok"))) {
        const char *why = sb_json_str(reply, "error");
        sb_fail(err, SB_EUSAGE, "'%s': %s", path, why ? why : "it cannot be read as certificates");
        sb_hint(err, "give a file with the certificates alone, between BEGIN CERTIFICATE and END "
                     "CERTIFICATE; 'openssl x509 -inform der -in FILE' makes such text of others");
        return SB_EUSAGE;
    }
    *ret = json_pack("{s:O,s:O}", "pem", json_object_get(reply, "pem"), "certificates",
                     json_object_get(reply, "certificates"));
    return 0;
}

char *settings_show_ca(const json_t *stored)
{
    struct sb_buf text;
    sb_buf_init(&text, REPLY_MAX);
    size_t i;
    const json_t *cert;
    json_array_foreach(json_object_get(stored, "certificates"), i, cert)
    {
        const char *subject = sb_json_str(cert, "subject"), *until = sb_json_str(cert, "until");
        sb_buf_printf(&text, "%s%s (until %s%s%s)", i ? "; " : "", subject ? subject : "?",
                      until ? until : "?",
                      json_is_true(json_object_get(cert, "expired")) ? ", expired" : "",
                      json_is_true(json_object_get(cert, "ca")) ? "" : ", no authority");
    }
    return sb_buf_steal(&text);
}
