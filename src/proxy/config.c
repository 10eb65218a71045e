/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/config.h"

#include <string.h>

#include "base/fs.h"
#include "base/msg.h"
#include "policy/store.h"
#include "proxy/bounds.h"

static void free_wiped(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    free(config->sandbox);
    policy_free(config->policy);
    inject_set_free(config->inject);
    json_decref(config->hosts);
    json_decref(config->pins);
    via_unref(config->via);
    free(config->extra_ca);
    free(config->ca_cert);
    free_wiped(config->ca_key);
    free(config);
}

static int read_ca(const json_t *root, struct config *config, struct sb_err **err)
{
    const json_t *ca = json_object_get(root, "ca");
    if (!ca || json_is_null(ca)) {
        return 0;
    }
    const char *cert = sb_json_str(ca, "cert_pem");
    const char *key = sb_json_str(ca, "key_pem");
    if (!cert || !key) {
        return sb_fail(err, SB_EPROTO, "proxy configuration: 'ca' needs 'cert_pem' and 'key_pem'");
    }
    config->ca_cert = sb_xstrdup(cert);
    config->ca_key = sb_xstrdup(key);
    return 0;
}

static int read_pins(json_t *root, struct config *config, struct sb_err **err)
{
    const char *name;
    const json_t *item;
    config->pins = json_incref(json_object_get(root, "pins"));
    json_object_foreach(config->pins, name, item)
    {
        const char *text = json_string_value(item);
        struct host host = {0};
        uint16_t port;
        if (!text || host_parse_authority(text, strlen(text), 0, &host, &port, NULL) < 0 ||
            !host.is_address) {
            return sb_fail(err, SB_EPROTO, "proxy configuration: 'pins': no address for '%s'",
                           name);
        }
    }
    return 0;
}

/* What the network that we are in wants. */
static int read_outside(const json_t *root, struct config *config, struct sb_err **err)
{
    const json_t *via = json_object_get(root, "via");
    const char *extra = sb_json_str(root, "extra_ca");
    config->extra_ca = extra ? sb_xstrdup(extra) : NULL;
    int r = json_is_object(via) ? via_from_json(via, &config->via, err) : 0;
    return r < 0 ? sb_wrap(err, r, "proxy configuration: 'via'") : 0;
}

static int read_root(json_t *root, struct config **ret, struct sb_err **err)
{
    if (sb_json_int(root, "version", 0) != 1) {
        return sb_fail(err, SB_EPROTO, "proxy configuration: expected \"version\": 1");
    }
    SB_CLEANUP(config) struct config *config = sb_xcalloc(1, sizeof(*config));
    const char *sandbox = sb_json_str(root, "sandbox");
    config->sandbox = sb_xstrdup(sandbox ? sandbox : "");
    int r = policy_from_json(json_object_get(root, "rules"), &config->policy, err);
    if (r < 0) {
        return sb_wrap(err, r, "proxy configuration: 'rules'");
    }
    json_t *inject = json_object_get(root, "inject");
    SB_CLEANUP(json) json_t *none = inject ? NULL : json_array();
    config->inject = inject_set_from_json(inject ? inject : none);
    if (!config->inject) {
        return sb_fail(err, SB_EPROTO, "proxy configuration: 'inject' is malformed");
    }
    config->hosts = json_incref(json_object_get(root, "hosts"));
    r = read_pins(root, config, err);
    r = r < 0 ? r : read_ca(root, config, err);
    r = r < 0 ? r : read_outside(root, config, err);
    if (r < 0) {
        return r;
    }
    *ret = sb_steal(&config);
    return 0;
}

int config_read(int fd, struct config **ret, struct sb_err **err)
{
    struct sb_buf text;
    sb_buf_init(&text, LIMIT_CONFIG_BYTES);
    int r = sb_read_fd(fd, &text);
    if (r < 0) {
        sb_buf_wipe(&text);
        return sb_fail(err, r, "cannot read the proxy configuration");
    }
    SB_CLEANUP(json)
    json_t *root = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, NULL);
    sb_buf_wipe(&text);
    if (!json_is_object(root)) {
        return sb_fail(err, SB_EPROTO, "the proxy configuration is not a JSON object");
    }
    return read_root(root, ret, err);
}
