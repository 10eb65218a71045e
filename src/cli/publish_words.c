/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/publish_words.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/msg.h"

static int bad_word(const char *word, struct sb_err **err)
{
    sb_fail(err, SB_EUSAGE, "--publish '%s' is not [[HOST_IP:]HOST_PORT:]SANDBOX_PORT[/tcp]", word);
    sb_hint(err, "ports are 1 to 65535: 3000 (any free host port), 8080:3000, 0.0.0.0:8080:3000");
    return SB_EUSAGE;
}

static bool is_address(const char *text)
{
    struct in6_addr ignored;
    return inet_pton(AF_INET, text, &ignored) == 1 || inet_pton(AF_INET6, text, &ignored) == 1;
}

/* A port of 1 to 65535 that ends the text; 0 when it is none. */
static int parse_port(const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && number > 0 && number < 65536
               ? (int)number
               : 0;
}

static int parse_word(const char *word, json_t *list, struct sb_err **err)
{
    SB_CLEANUP(free) char *copy = sb_xstrdup(word);
    char *slash = strchr(copy, '/');
    if (slash && strcmp(slash, "/tcp") != 0) {
        sb_fail(err, SB_EUSAGE, "--publish '%s': only tcp can be published", word);
        return SB_EUSAGE;
    }
    if (slash) {
        *slash = '\0';
    }
    char *last = strrchr(copy, ':');
    int port = parse_port(last ? last + 1 : copy);
    int host_port = 0;
    const char *host_ip = "127.0.0.1";
    if (last) {
        *last = '\0';
        char *first = strrchr(copy, ':');
        host_port = parse_port(first ? first + 1 : copy);
        if (first) {
            *first = '\0';
            bool bracketed = copy[0] == '[' && first > copy && first[-1] == ']';
            if (bracketed) {
                first[-1] = '\0';
            }
            host_ip = bracketed ? copy + 1 : copy;
        }
    }
    if (!port || (last && !host_port) || !is_address(host_ip)) {
        return bad_word(word, err);
    }
    json_array_append_new(
        list, json_pack("{s:s,s:i,s:i}", "host_ip", host_ip, "host_port", host_port, "port", port));
    return 0;
}

int cli_publish_words(const struct cli_args *args, const json_t *plan, json_t **ret,
                      struct sb_err **err)
{
    SB_CLEANUP(json) json_t *list = json_array();
    size_t count;
    const char *const *words = cli_list(args, "publish", &count);
    for (size_t i = 0; i < count; i++) {
        int r = parse_word(words[i], list, err);
        if (r < 0) {
            return r;
        }
    }
    const json_t *ports = json_object_get(plan, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *port = json_array_get(ports, i);
        const char *protocol = sb_json_str(port, "protocol");
        if (!protocol || strcmp(protocol, "udp") != 0) {
            json_array_append_new(list,
                                  json_pack("{s:s,s:i,s:I}", "host_ip", "127.0.0.1", "host_port", 0,
                                            "port", sb_json_int(port, "container", 0)));
        }
    }
    *ret = sb_steal(&list);
    return 0;
}
