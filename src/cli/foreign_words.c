/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/foreign_words.h"

#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"

#define NO_IMAGES "there are no images yet: a sandbox has the host's own userland, copied on write"
#define NO_COPY                                                                                    \
    "there is no work on a copy yet: 'git worktree add DIR' makes one, to be given as PATH"
#define LOCAL       "sbx is local, and needs no account"
#define DIRECTORIES "for now a kit is a directory: copy it, or keep it in a git repository"
#define PIPED       "give the value by standard input: COMMAND | sbx secret set [-g | SANDBOX] SERVICE"

static const struct {
    const char *path, *word, *instead;
} foreign[] = {
    {"", "allow", "'sbx policy allow [-g | SANDBOX] RESOURCE...' does that"},
    {"", "attach", "'sbx run NAME' runs the agent, 'sbx exec -it NAME bash' opens a shell"},
    {"", "claude", "the agent is a word of 'sbx run': sbx run claude ."},
    {"", "codex", "the agent is a word of 'sbx run': sbx run codex ."},
    {"", "cp", "'sbx exec NAME cat FILE >FILE' copies out; the workspace is shared"},
    {"", "daemon", "there is no daemon: each running sandbox has two processes of its own"},
    {"", "delete", "'sbx rm NAME...' removes sandboxes"},
    {"", "deny", "'sbx policy deny [-g | SANDBOX] RESOURCE...' does that"},
    {"", "diagnose", "'sbx doctor' shows what this machine offers, and what would help"},
    {"", "env", "'-e NAME=VALUE' and '--env-file FILE' of run, create and exec set variables"},
    {"", "inspect", "'sbx ls --json' shows all of each sandbox, 'sbx kit inspect DIR' a kit"},
    {"", "list", "it is called 'sbx ls' here"},
    {"", "login", LOCAL},
    {"", "logout", LOCAL},
    {"", "logs", "'sbx policy log' shows requests, 'sbx kit log NAME' what a kit's steps printed"},
    {"", "mcp", "servers of the Model Context Protocol run inside: a kit may install them"},
    {"", "ports", "'-p SPEC' of run and create publishes ports, 'sbx ls' shows them"},
    {"", "prune", "'sbx rm NAME...' removes sandboxes, 'sbx rm --all' all of them"},
    {"", "ps", "it is called 'sbx ls' here"},
    {"", "remove", "'sbx rm NAME...' removes sandboxes"},
    {"", "save", NO_IMAGES},
    {"", "setup", "nothing is to be set up; 'sbx doctor' shows what would help"},
    {"", "shell", "the agent is a word of 'sbx run': sbx run shell ."},
    {"", "status", "'sbx ls' shows what runs, 'sbx doctor' what this machine offers"},
    {"", "template", NO_IMAGES},
    {"", "tui", "'sbx ls' and 'sbx policy log -f' show what goes on"},
    {"", "up", "'sbx run shell .' makes a sandbox, 'sbx start NAME' starts a stopped one"},
    {"kit", "add", "a kit is given when a sandbox is made: 'sbx create --kit DIR AGENT'"},
    {"kit", "pack", DIRECTORIES},
    {"kit", "pull", DIRECTORIES},
    {"kit", "push", DIRECTORIES},
    {"kit", "sign", DIRECTORIES},
    {"kit", "verify", DIRECTORIES},
    {"policy", "inspect", "'sbx policy ls' shows the rules, and with --json all of each"},
    {"policy", "reset", "'sbx policy init PRESET' chooses anew, 'sbx reset' removes everything"},
    {"secret", "import", PIPED},
    {"create", "--branch", NO_COPY},
    {"create", "--clone", NO_COPY},
    {"create", "--cloud", LOCAL},
    {"create", "--template", NO_IMAGES},
    {"create", "-t", NO_IMAGES},
    {"exec", "--detach-keys", "a command that shall go on without you is begun with '-d'"},
    {"exec", "--privileged",
     "'-u 0' is root; with a kernel of its own (--isolation vm) it may do all that root may"},
    {"run", "--branch", NO_COPY},
    {"run", "--clone", NO_COPY},
    {"run", "--cloud", LOCAL},
    {"run", "--template", NO_IMAGES},
    {"run", "-t", NO_IMAGES},
    {"secret set", "--command", PIPED},
    {"secret set", "--oauth",
     "log in inside as usual: the tokens stay outside (docs/credentials.md)"},
    {"secret set", "--password-stdin", PIPED},
    {"secret set", "--ref", PIPED},
    {"secret set", "--registry", NO_IMAGES},
};

const char *cli_foreign_word(const char *path, const char *word)
{
    size_t len = strcspn(word, "=");
    for (size_t i = 0; i < SB_ARRAY_LEN(foreign); i++) {
        if (strcmp(foreign[i].path, path) == 0 && strlen(foreign[i].word) == len &&
            memcmp(foreign[i].word, word, len) == 0) {
            return foreign[i].instead;
        }
    }
    return NULL;
}
