/* SPDX-License-Identifier: Apache-2.0
 * Any text as the address of a proxy and as a list of hosts without one.  What was accepted is
 * accepted again as it is shown, and no text that is shown holds the password. */
#include <assert.h>
#include <string.h>

#include "settings/no_proxy.h"
#include "settings/proxy_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Longer than what may stand elsewhere by chance. */
static bool is_telling(const char *password)
{
    return password && strlen(password) > 8;
}

static void check_url(const char *text)
{
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    SB_CLEANUP(proxy_url) struct proxy_url again = {0};
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(free) char *masked = proxy_url_masked(text);
    if (proxy_url_parse(text, &url, &err) < 0) {
        assert(err && err->message);
        return;
    }
    SB_CLEANUP(free) char *shown = proxy_url_shown(&url);
    assert(proxy_url_parse(shown, &again, NULL) == 0);
    assert(again.scheme == url.scheme && again.port == url.port && !again.username);
    assert(strcmp(again.host.text, url.host.text) == 0);
    bool named = is_telling(url.password) && strstr(url.host.text, url.password);
    bool same = is_telling(url.password) && url.username && strstr(url.username, url.password);
    assert(!is_telling(url.password) || named || same || !strstr(masked, url.password));
    struct no_proxy *all = no_proxy_new("*", NULL);
    assert(no_proxy_covers(all, &url.host, 1));
    no_proxy_free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SB_CLEANUP(free) char *text = sb_xstrndup((const char *)data, size);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    struct host host;
    check_url(text);
    struct no_proxy *list = no_proxy_new(text, &err);
    /* A host covers itself. */
    if (!err && !strpbrk(text, ", \t\r\n/") && host_parse(text, strlen(text), &host, NULL) == 0) {
        assert(no_proxy_covers(list, &host, 443));
    }
    no_proxy_free(list);
    return 0;
}
