/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's `sudo`: any process inside may run a command as any user of the sandbox, without a
 * password.  The boundary is the sandbox, not its users.
 *
 * Unlike the usual sudo it keeps the caller's environment (but LD_*), so that proxy and CA settings
 * reach package managers; `-i` keeps only the settings listed here. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "init/account.h"
#include "init/init.h"
#include "init/interpreter.h"
#include "vm/machine.h"

#define SECURE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { WORDS_MAX = 2 * 1024 * 1024 }; /* the kernel's own limit for arguments is near it */

struct sudo {
    const char *user, *group;
    const char *preserve_list; /* names of --preserve-env=a,b */
    bool preserve_all, set_home, login, shell, background, validate;
    char **words; /* what follows the options: NAME=value..., command */
    int nwords;
};

/* Kept by `sudo -i` too: without them nothing inside reaches the network. */
static const char *const always_kept[] = {
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "NODE_USE_ENV_PROXY",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
    "GIT_TERMINAL_PROMPT",
    "GIT_ASKPASS",
    "GOPRIVATE",
    "TERM",
    "COLORTERM",
    "LANG",
};
static const char *const kept_prefixes[] = {"SBX_", "LC_", "GIT_CONFIG_"};

static const char *next_in_list(const char **cursor, size_t *ret_len)
{
    const char *p = *cursor;
    if (!p || !*p) {
        return NULL;
    }
    *ret_len = strcspn(p, ",");
    *cursor = p + *ret_len + (p[*ret_len] == ',');
    return p;
}

static bool listed(const char *list, const char *name, size_t len)
{
    size_t n;
    for (const char *p; (p = next_in_list(&list, &n));) {
        if (n == len && strncmp(p, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool keeps_variable(const struct sudo *sudo, const char *variable)
{
    size_t len = strcspn(variable, "=");
    if (strncmp(variable, "LD_", 3) == 0) {
        return false;
    }
    if (!sudo->login || listed(sudo->preserve_list, variable, len)) {
        return true;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(always_kept); i++) {
        if (strlen(always_kept[i]) == len && strncmp(variable, always_kept[i], len) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(kept_prefixes); i++) {
        if (strncmp(variable, kept_prefixes[i], strlen(kept_prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Leaves in the environment only what the command may see of the caller's. */
static void filter_environment(const struct sudo *sudo)
{
    char **old = environ;
    size_t count = 0;
    while (old && old[count]) {
        count++;
    }
    char **kept = sb_xcalloc(count + 1, sizeof(*kept));
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (keeps_variable(sudo, old[i])) {
            kept[n++] = old[i];
        }
    }
    environ = kept;
}

static void set_number(const char *name, unsigned value)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", value);
    setenv(name, text, 1);
}

/* The secure directories first, then those of the caller (tools of the agent's home). */
static void set_path(const struct sudo *sudo)
{
    const char *old = getenv("PATH");
    SB_CLEANUP(free)
    char *path = sb_xasprintf("%s%s%s", SECURE_PATH, old && *old && !sudo->login ? ":" : "",
                              old && !sudo->login ? old : "");
    if (!old || strncmp(old, SECURE_PATH, strlen(SECURE_PATH)) != 0) {
        setenv("PATH", path, 1);
    }
}

static void set_environment(const struct sudo *sudo, const struct account *target)
{
    struct account caller = {0};
    SB_CLEANUP(free) char *uid_text = sb_xasprintf("%u", getuid());
    if (account_load(uid_text, &caller, NULL) == 0) {
        setenv("SUDO_USER", caller.name, 1);
        account_done(&caller);
    }
    set_number("SUDO_UID", getuid());
    set_number("SUDO_GID", getgid());
    bool keep_home = sudo->preserve_all || listed(sudo->preserve_list, "HOME", 4);
    if (!keep_home || sudo->set_home || !getenv("HOME")) {
        setenv("HOME", target->home, 1);
    }
    setenv("USER", target->name, 1);
    setenv("LOGNAME", target->name, 1);
    setenv("SHELL", target->shell, 1);
    set_path(sudo);
}

static int usage(const char *problem, const char *detail)
{
    fprintf(stderr,
            "sudo: %s%s\n"
            "usage: sudo [-bEHikKnSsv] [-u user] [-g group] [--preserve-env[=list]] "
            "[VAR=value...] [command [arg...]]\n",
            problem, detail);
    return 1;
}

static const struct option long_options[] = {
    {"user", required_argument, NULL, 'u'},
    {"group", required_argument, NULL, 'g'},
    {"preserve-env", optional_argument, NULL, 'E'},
    {"set-home", no_argument, NULL, 'H'},
    {"non-interactive", no_argument, NULL, 'n'},
    {"stdin", no_argument, NULL, 'S'},
    {"reset-timestamp", no_argument, NULL, 'k'},
    {"remove-timestamp", no_argument, NULL, 'K'},
    {"validate", no_argument, NULL, 'v'},
    {"login", no_argument, NULL, 'i'},
    {"shell", no_argument, NULL, 's'},
    {"background", no_argument, NULL, 'b'},
    {NULL, 0, NULL, 0},
};

/* Sets one option; false for an unknown one. */
static bool set_option(struct sudo *sudo, int option)
{
    switch (option) {
    case 'u':
        sudo->user = optarg;
        return true;
    case 'g':
        sudo->group = optarg;
        return true;
    case 'E':
        sudo->preserve_all |= optarg == NULL;
        sudo->preserve_list = optarg ? optarg : sudo->preserve_list;
        return true;
    case 'H':
        sudo->set_home = true;
        return true;
    case 'i':
        sudo->login = true;
        return true;
    case 's':
        sudo->shell = true;
        return true;
    case 'b':
        sudo->background = true;
        return true;
    case 'k':
    case 'K':
    case 'v':
        sudo->validate = true;
        return true;
    case 'n':
    case 'S': /* there is never a password to ask for */
        return true;
    default:
        return false;
    }
}

static int parse_options(int argc, char **argv, struct sudo *sudo)
{
    opterr = 0;
    int option;
    while ((option = getopt_long(argc, argv, "+:u:g:EHnSkKvisb", long_options, NULL)) != -1) {
        if (option == ':') {
            return usage("missing value after ", argv[optind - 1]);
        }
        if (!set_option(sudo, option)) {
            char letter[] = {'-', (char)optopt, '\0'};
            return usage("unknown option ", optopt ? letter : argv[optind - 1]);
        }
    }
    sudo->words = argv + optind;
    sudo->nwords = argc - optind;
    return 0;
}

/* Puts the leading NAME=value words into the environment. */
static void take_assignments(struct sudo *sudo)
{
    while (sudo->nwords > 0) {
        char *word = sudo->words[0];
        size_t name_len = strcspn(word, "=");
        if (!word[name_len] || name_len == 0 || memchr(word, '/', name_len)) {
            return;
        }
        SB_CLEANUP(free) char *name = sb_xstrndup(word, name_len);
        setenv(name, word + name_len + 1, 1);
        sudo->words++;
        sudo->nwords--;
    }
}

/* The words as one text; with `quoted`, as one that a shell splits into the same words again. */
static char *join_words(const struct sudo *sudo, bool quoted)
{
    SB_CLEANUP(buf) struct sb_buf buf;
    sb_buf_init(&buf, WORDS_MAX);
    for (int i = 0; i < sudo->nwords; i++) {
        sb_buf_puts(&buf, i ? " " : "");
        for (const char *p = sudo->words[i]; *p; p++) {
            bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                         (*p >= '0' && *p <= '9') || strchr("_-./$=:,+@%", *p) || (*p & 0x80);
            if (quoted && *p == '\n') {
                sb_buf_puts(&buf, "'\n'");
                continue;
            }
            sb_buf_append(&buf, "\\", quoted && !plain);
            sb_buf_append(&buf, p, 1);
        }
        sb_buf_puts(&buf, quoted && !sudo->words[i][0] ? "''" : "");
    }
    return sb_buf_steal(&buf);
}

static int run_words(char **words)
{
    execvp(words[0], words);
    int errnum = errno;
    SB_CLEANUP(free) char *missing = errnum == ENOENT ? interpreter_missing(words[0]) : NULL;
    fprintf(stderr, "sudo: %s: %s\n", words[0],
            missing            ? missing
            : errnum == ENOENT ? "command not found"
                               : strerror(errnum));
    return 1;
}

/* -i and -s: the target's (or caller's) shell, with the words as its command. */
static int run_shell(const struct sudo *sudo, const struct account *target, const char *own_shell)
{
    const char *shell = sudo->login || !own_shell || !*own_shell ? target->shell : own_shell;
    if (sudo->login && chdir(target->home) < 0) {
        fprintf(stderr, "sudo: cannot enter %s: %s\n", target->home, strerror(errno));
    }
    const char *slash = strrchr(shell, '/');
    SB_CLEANUP(free) char *login_name = sb_xasprintf("-%s", slash ? slash + 1 : shell);
    SB_CLEANUP(free) char *name = sb_xstrdup(shell);
    SB_CLEANUP(free) char *command = join_words(sudo, true);
    char *argv[] = {sudo->login ? login_name : name, NULL, NULL, NULL};
    char option[] = "-c";
    if (sudo->nwords > 0) {
        argv[1] = option;
        argv[2] = command;
    }
    execv(shell, argv);
    fprintf(stderr, "sudo: %s: %s\n", shell, strerror(errno));
    return 1;
}

static int become(const struct sudo *sudo, struct account *ret_target)
{
    if (geteuid() != 0) {
        fputs("sudo: this sandbox runs with a single user id, so root is not available in it\n"
              "  hint: install the package `uidmap` on the host (it gives a user more ids), then "
              "create the sandbox again\n",
              stderr);
        return 1;
    }
    /* As in sudo, "#0" is a number for sure. */
    const char *user = sudo->user ? sudo->user + (sudo->user[0] == '#') : "0";
    SB_CLEANUP(free)
    char *text = sb_xasprintf("%s%s%s", user, sudo->group ? ":" : "",
                              sudo->group ? sudo->group + (sudo->group[0] == '#') : "");
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (account_load(text, ret_target, &err) < 0) {
        fprintf(stderr, "sudo: %s\n", err->message);
        return 1;
    }
    return 0;
}

/* A machine of ours says so where nobody can but who starts a kernel. */
static bool is_machine(void)
{
    SB_CLEANUP(buf) struct sb_buf line;
    sb_buf_init(&line, 4096);
    return sb_read_file(AT_FDCWD, "/proc/cmdline", &line, NULL) == 0 && line.len &&
           strstr(line.data, " " MACHINE_MARK " ");
}

/* The template holds this program setuid: on the host itself it must give nothing to anybody.  The
 * first user namespace is the one in which every id maps to itself; a sandbox has it only in a
 * kernel of its own. */
static bool is_outside_sandbox(void)
{
    SB_CLEANUP(buf) struct sb_buf map;
    sb_buf_init(&map, 4096);
    if (sb_read_file(AT_FDCWD, "/proc/self/uid_map", &map, NULL) < 0 || map.len == 0) {
        return true;
    }
    char *rest;
    unsigned long inside = strtoul(map.data, &rest, 10);
    unsigned long outside = strtoul(rest, NULL, 10);
    return inside == 0 && outside == 0 && !is_machine();
}

int sudo_main(int argc, char **argv)
{
    if (is_outside_sandbox()) {
        fputs("sudo: this is the sudo of sbx sandboxes, it does nothing outside of one\n", stderr);
        return 1;
    }
    struct sudo sudo = {0};
    int r = parse_options(argc, argv, &sudo);
    SB_CLEANUP(account) struct account target = {0};
    if (r || (r = become(&sudo, &target))) {
        return r;
    }
    bool shell = sudo.login || sudo.shell;
    const char *own_shell = getenv("SHELL");
    SB_CLEANUP(free) char *caller_shell = own_shell ? sb_xstrdup(own_shell) : NULL;
    filter_environment(&sudo);
    set_environment(&sudo, &target);
    take_assignments(&sudo);
    if (sudo.nwords == 0 && !shell) {
        return sudo.validate ? 0 : usage("no command given", "");
    }
    SB_CLEANUP(free) char *line = join_words(&sudo, false);
    setenv("SUDO_COMMAND", sudo.nwords ? line : target.shell, 1);
    r = account_become(&target);
    if (r < 0) {
        fprintf(stderr, "sudo: cannot become '%s': %s\n", target.name, account_problem(r));
        return 1;
    }
    if (sudo.background && fork() > 0) {
        return 0;
    }
    return shell ? run_shell(&sudo, &target, caller_shell) : run_words(sudo.words);
}
