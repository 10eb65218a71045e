/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/trust.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs.h"
#include "base/msg.h"
#include "sandbox/environment.h"

enum { EXTRA_CA_MAX = 4 << 20, BUNDLE_MAX = 8 << 20 };

/* Which extra certificates (PEM) the sandbox's bundle was last made with; "" without. */
static char *known_extra(const char *record)
{
    struct sb_buf text;
    sb_buf_init(&text, EXTRA_CA_MAX);
    if (sb_read_file(AT_FDCWD, record, &text, NULL) < 0) {
        sb_buf_clear(&text);
    }
    return sb_buf_steal(&text);
}

/* The host's bundle, our CA and the person's own authorities: as one file, and where
 * update-ca-certificates looks when a package makes the bundle anew; our CA as a file of its own as
 * well, for tools that take a single one. */
static int install(struct trust *trust, const char *extra, struct sb_err **err)
{
    const char *ours = trust->ca ? sb_json_str(trust->ca, "cert_pem") : "";
    SB_CLEANUP(free) char *added = sb_xasprintf("%s%s", ours, extra);
    SB_CLEANUP(buf) struct sb_buf bundle;
    sb_buf_init(&bundle, BUNDLE_MAX);
    int r = sb_read_file(AT_FDCWD, ENVIRONMENT_CA_BUNDLE, &bundle, NULL);
    if (r < 0) {
        sb_buf_clear(&bundle);
    }
    sb_buf_puts(&bundle, added);
    const struct {
        const char *path, *text;
    } files[] = {{ENVIRONMENT_CA_BUNDLE, bundle.data},
                 {"/usr/local/share/ca-certificates/sbx.crt", added},
                 {"/opt/sbx/ca.pem", trust->ca ? ours : NULL}};
    r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(files); i++) {
        const char *text = files[i].text;
        r = text ? trust->write(trust->arg, files[i].path, text, strlen(text), err) : 0;
    }
    return r;
}

int trust_update(struct trust *trust, const char *extra, struct sb_err **err)
{
    SB_CLEANUP(free) char *record = sb_xasprintf("%s/extra-ca.pem", trust->directory);
    SB_CLEANUP(free) char *known = known_extra(record);
    bool changed = strcmp(known, extra) != 0;
    if (!changed && (trust->installed || (!trust->ca && !*extra))) {
        return 0;
    }
    int r = install(trust, extra, err);
    if (r == 0 && changed) {
        r = sb_write_file_atomic(AT_FDCWD, record, extra, strlen(extra), 0600, err);
    }
    trust->installed = r == 0;
    return r;
}

int trust_ensure_ca(struct trust *trust, struct exit_proxy *proxy, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/ca.json", trust->directory);
    if (trust->ca) {
        return 0;
    }
    trust->installed = false;
    trust->ca = json_load_file(path, 0, NULL);
    if (trust->ca) {
        return 0;
    }
    int r = exit_proxy_make_ca(proxy, &trust->ca, err);
    if (r < 0) {
        return r;
    }
    char *text = json_dumps(trust->ca, JSON_COMPACT);
    r = sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, err);
    explicit_bzero(text, strlen(text));
    free(text);
    return r;
}
