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

static struct in6_addr address_of(const char *text)
{
    struct in6_addr address = {0};
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        address.s6_addr[10] = address.s6_addr[11] = 0xff; /* apart from all of IPv6 */
        memcpy(&address.s6_addr[12], &v4, sizeof(v4));
    } else {
        inet_pton(AF_INET6, text, &address);
    }
    return address;
}

/* Two ports inside behind one of the host: only the first could be made. */
static int check_taken(const char *word, const json_t *list, const json_t *entry,
                       struct sb_err **err)
{
    json_int_t host_port = sb_json_int(entry, "host_port", 0);
    struct in6_addr address = address_of(sb_json_str(entry, "host_ip"));
    size_t i;
    const json_t *other;
    json_array_foreach(list, i, other)
    {
        struct in6_addr its = address_of(sb_json_str(other, "host_ip"));
        if (host_port && sb_json_int(other, "host_port", 0) == host_port &&
            memcmp(&its, &address, sizeof(its)) == 0) {
            sb_fail(err, SB_EUSAGE, "--publish '%s': host port %d is given twice", word,
                    (int)host_port);
            sb_hint(err, "choose another host port, or leave it out to get a free one");
            return SB_EUSAGE;
        }
    }
    return 0;
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
    SB_CLEANUP(json)
    json_t *entry =
        json_pack("{s:s,s:i,s:i}", "host_ip", host_ip, "host_port", host_port, "port", port);
    int r = check_taken(word, list, entry, err);
    if (r == 0) {
        json_array_append(list, entry);
    }
    return r;
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
