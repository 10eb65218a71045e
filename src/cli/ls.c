/* SPDX-License-Identifier: Apache-2.0
 * sbx ls: the sandboxes of this user. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "cli/basic.h"
#include "sandbox/client.h"

const struct cli_flag cli_flags_ls[] = {
    {"json", 0, CLI_BOOL, NULL, "Print a JSON array"},
    {"quiet", 'q', CLI_BOOL, NULL, "Print names only"},
    {0},
};

enum { PORTS_TEXT_MAX = 4096 };

/* "127.0.0.1:8080->3000/tcp, [::1]:8080->3000/tcp, ..." */
static void join_ports(const json_t *ports, struct sb_buf *text)
{
    size_t i;
    const json_t *port;
    json_array_foreach(ports, i, port)
    {
        const char *address = sb_json_str(port, "host_ip");
        bool v6 = address && strchr(address, ':');
        sb_buf_printf(text, "%s%s%s%s:%d->%d/tcp", text->len ? ", " : "", v6 ? "[" : "", address,
                      v6 ? "]" : "", (int)sb_json_int(port, "host_port", 0),
                      (int)sb_json_int(port, "port", 0));
    }
}

static const char *field(const json_t *sandbox, const char *key)
{
    const char *text = sb_json_str(sandbox, key);
    return text && *text ? text : "-";
}

static void print_table(const json_t *list)
{
    static const char *const headers[] = {"SANDBOX",   "AGENT",     "STATUS", "PORTS",
                                          "WORKSPACE", "ISOLATION", NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *sandbox;
    json_array_foreach(list, i, sandbox)
    {
        SB_CLEANUP(buf) struct sb_buf ports = {0};
        sb_buf_init(&ports, PORTS_TEXT_MAX);
        join_ports(json_object_get(sandbox, "ports"), &ports);
        const char *const cells[] = {field(sandbox, "name"),      field(sandbox, "agent"),
                                     field(sandbox, "status"),    ports.len ? ports.data : "-",
                                     field(sandbox, "workspace"), field(sandbox, "isolation")};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
}

int cmd_ls(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *list = NULL;
    int r = sandbox_list(&list, err);
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "json")) {
        json_dumpf(list, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
    } else if (cli_bool(args, "quiet")) {
        size_t i;
        const json_t *sandbox;
        json_array_foreach(list, i, sandbox)
        {
            puts(field(sandbox, "name"));
        }
    } else {
        print_table(list);
    }
    *ret_status = 0;
    return 0;
}
