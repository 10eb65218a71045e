/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/isolation.h"

#include "vm/probe.h"
#include "vm/programs.h"

const char *isolation_word(const char *word)
{
    static const char *const words[] = {"auto", "vm", "ns"};
    for (size_t i = 0; i < SB_ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            return words[i];
        }
    }
    return NULL;
}

static int choose_vm(struct isolation *ret, struct sb_err **err)
{
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    int r = vm_available(err);
    r = r < 0 ? sb_wrap(err, r, "a virtual machine cannot be made") : vm_probe(false, &probe, err);
    if (r == 0) {
        ret->chosen = "vm";
        ret->note = probe.works ? NULL
                                : sb_xasprintf("warning: the virtual machine runs in software, "
                                               "about ten times slower: %s; 'sbx doctor' tells "
                                               "what would help",
                                               probe.reason);
    }
    return r;
}

/* Whatever went wrong with the probe: "auto" works everywhere. */
static void choose_auto(struct isolation *ret)
{
    SB_CLEANUP(vm_probe) struct vm_probe probe = {0};
    SB_CLEANUP(err) struct sb_err *why = NULL;
    int r = vm_probe(false, &probe, &why);
    if (r == 0 && probe.works) {
        ret->chosen = "vm";
    } else if (r < 0 || probe.fresh) {
        ret->note =
            sb_xasprintf("note: sandboxes share this machine's kernel (isolation 'ns'), not "
                         "a virtual machine each: %s; 'sbx doctor' tells what would help",
                         r < 0 ? why->message : probe.reason);
    }
}

int isolation_check(const char *requested, const char *origin, struct sb_err **err)
{
    return isolation_word(requested)
               ? 0
               : sb_fail(err, SB_EUSAGE, "%s '%s': expected auto, vm or ns", origin, requested);
}

int isolation_choose(const char *requested, const char *origin, struct isolation *ret,
                     struct sb_err **err)
{
    int r = isolation_check(requested, origin, err);
    if (r < 0) {
        return r;
    }
    const char *word = isolation_word(requested);
    *ret = (struct isolation){.requested = word, .chosen = "ns"};
    if (strcmp(word, "vm") == 0) {
        return choose_vm(ret, err);
    }
    if (strcmp(word, "auto") == 0) {
        choose_auto(ret);
    }
    return 0;
}
