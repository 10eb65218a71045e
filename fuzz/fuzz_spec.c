/* SPDX-License-Identifier: Apache-2.0
 * Spec text of any kind: parse, and when it parses print it and plan with it, alone and stacked on
 * an agent.  What is refused is refused with a place, in one line of UTF-8. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"
#include "plan/plan.h"
#include "spec/kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char agent_text[] = "schemaVersion: \"1\"\nkind: sandbox\nname: the-agent\n"
                                 "sandbox: {image: host, aiFilename: AGENTS.md}\n";

static void check_message(const char *message)
{
    SB_CLEANUP(json) json_t *text = json_string(message);
    if (!text || strchr(message, '\n')) {
        abort();
    }
}

static void plan_with(const struct kit *const *kits, size_t count)
{
    struct plan_context context = {.workspace = "/work"};
    SB_CLEANUP(json) json_t *plan = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (plan_compose(kits, count, &context, &plan, &err) < 0) {
        check_message(err->message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SB_CLEANUP(kit) struct kit *kit = NULL, *agent = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (kit_parse("spec.yaml", (const char *)data, size, &kit, &err) < 0) {
        if (!err->place.line || !err->place.column) {
            abort();
        }
        check_message(err->message);
        return 0;
    }
    json_decref(kit_to_json(kit));
    size_t i;
    const json_t *warning;
    json_array_foreach(kit_warnings(kit), i, warning)
    {
        check_message(sb_json_str(warning, "message"));
    }
    if (kit_parse("agent", agent_text, strlen(agent_text), &agent, NULL) < 0) {
        abort();
    }
    plan_with((const struct kit *[]){kit}, 1);
    plan_with((const struct kit *[]){agent, kit}, 2);
    return 0;
}
