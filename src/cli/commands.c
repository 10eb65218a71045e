/* SPDX-License-Identifier: Apache-2.0
 * The table of commands: `sbx help` lists them in this order. */
#include "cli/basic.h"
#include "cli/cli_internal.h"
#include "cli/policy.h"
#include "cli/run.h"
#include "cli/secret.h"
#include "cli/settings.h"
#include "cli/vm.h"
#include "settings/store.h"

#define ANY ((size_t)-1)

const struct cli_group cli_groups[] = {
    {"policy", "Say what sandboxes may reach, and see what they reached"},
    {"secret", "Keep secrets that sandboxes use and never see"},
    {"settings", "Say once what holds for every sandbox, such as a company's proxy"},
    {"kit", "Check kits and look into them"},
    {"vm", "Prepare virtual machines"},
    {0},
};

#define SETTING_KEYS                                                                               \
    SETTING_UPSTREAM " " SETTING_NO_PROXY " " SETTING_EXTRA_CA " " SETTING_ISOLATION

const struct cli_command cli_commands[] = {
    {
        .path = "run",
        .usage = "[flags] AGENT|SANDBOX [PATH[:ro]...] [-- AGENT_ARGS...]",
        .summary = "Run an agent in a sandbox, made when missing",
        .details =
            "AGENT is claude, codex or shell, which are built in, or the name of a kit of\n"
            "kind sandbox that --kit gives. The same agent and workspace mean the same\n"
            "sandbox again, as its name does. The first PATH (default: the current directory)\n"
            "is the workspace, at its own absolute path; further ones are added, and :ro\n"
            "makes one read-only. AGENT_ARGS are added to the agent's own when they begin\n"
            "with '-', and take their place else.\n",
        .examples = "sbx run shell .\n"
                    "sbx run claude ~/project\n"
                    "sbx run --kit examples/biome-lint --name demo shell ~/project ~/docs:ro\n"
                    "sbx run --rm shell . -- -c 'make test'",
        .flags = cli_flags_run,
        .min_words = 1,
        .max_words = ANY,
        .takes_rest = true,
        .run = cmd_run,
    },
    {
        .path = "create",
        .usage = "[flags] AGENT [PATH[:ro]...]",
        .summary = "Make a sandbox without running its agent",
        .details = "Prints the name of the new sandbox; its install steps have been carried out.\n",
        .examples = "sbx create --name demo shell .\n"
                    "sbx create --dry-run --kit examples/biome-lint shell .",
        .flags = cli_flags_run + CLI_FLAGS_OF_RUN_ALONE,
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_create,
    },
    {
        .path = "exec",
        .usage = "[flags] SANDBOX COMMAND [ARG...]",
        .summary = "Run a command in a sandbox, started when stopped",
        .details = "Flags stand before SANDBOX or before COMMAND; all that follows COMMAND is its\n"
                   "own. The exit status is that of COMMAND.\n",
        .examples = "sbx exec demo ls -la\n"
                    "sbx exec -it demo bash\n"
                    "sbx exec -u 0 -w /tmp demo id",
        .flags = cli_flags_exec,
        .min_words = 2,
        .max_words = ANY,
        .stop_at_word = true,
        .run = cmd_exec,
    },
    {
        .path = "ls",
        .usage = "[flags]",
        .summary = "List the sandboxes",
        .examples = "sbx ls\nsbx ls --json",
        .flags = cli_flags_ls,
        .run = cmd_ls,
    },
    {
        .path = "start",
        .usage = "SANDBOX...",
        .summary = "Start stopped sandboxes",
        .details = "Runs the kits' startup steps. Prints the name of each that runs.\n",
        .examples = "sbx start demo",
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_start,
    },
    {
        .path = "stop",
        .usage = "SANDBOX...",
        .summary = "Stop sandboxes; what they hold stays",
        .examples = "sbx stop demo",
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_stop,
    },
    {
        .path = "rm",
        .usage = "[flags] SANDBOX... | --all",
        .summary = "Remove sandboxes and all they hold",
        .details = "Stops each first. The workspace is not touched; the logs are kept; rules and\n"
                   "secrets of the sandbox alone are removed. Asks first; where there is no\n"
                   "terminal to ask at, --force is needed.\n",
        .examples = "sbx rm demo\nsbx rm --all --force",
        .flags = cli_flags_rm,
        .max_words = ANY,
        .run = cmd_rm,
    },
    {
        .path = "reset",
        .usage = "[flags]",
        .summary = "Remove all that sbx keeps, as before its first use",
        .details = "Removes every sandbox, then logs, templates, kernels of virtual machines,\n"
                   "rules, settings and secrets. Workspaces are not touched. Asks first; where\n"
                   "there is no terminal to ask at, --force is needed.\n",
        .examples = "sbx reset\nsbx reset --force --preserve-secrets",
        .flags = cli_flags_reset,
        .run = cmd_reset,
    },
    {
        .path = "policy init",
        .usage = "allow-all|balanced|deny-all",
        .summary = "Choose the preset that all rules build on",
        .details = "balanced, the default, lets sandboxes reach model APIs, package registries\n"
                   "and code hosts; deny-all nothing; allow-all everything. Rules and kits add to\n"
                   "it; a deny always wins.\n",
        .examples = "sbx policy init deny-all",
        .choices = "allow-all balanced deny-all",
        .min_words = 1,
        .max_words = 1,
        .run = cmd_policy_init,
    },
    {
        .path = "policy set-default",
        .usage = "allow-all|balanced|deny-all",
        .summary = "The same as policy init",
        .examples = "sbx policy set-default balanced",
        .choices = "allow-all balanced deny-all",
        .min_words = 1,
        .max_words = 1,
        .run = cmd_policy_init,
    },
    {
        .path = "policy ls",
        .usage = "[flags] [SANDBOX]",
        .summary = "List the rules that hold",
        .details = "Without SANDBOX the preset's and the global rules; with it also its own and\n"
                   "those of its kits.\n",
        .examples = "sbx policy ls\n"
                    "sbx policy ls demo --json",
        .flags = cli_flags_policy_ls,
        .max_words = 1,
        .run = cmd_policy_ls,
    },
    {
        .path = "policy allow",
        .usage = "[flags] [-g | SANDBOX] RESOURCE...",
        .summary = "Let sandboxes reach a host",
        .details =
            "RESOURCE is HOST[:PORT]; HOST is a name, *.name (one label more), **.name (one\n"
            "or more), ** (all), an address or a CIDR; PORT is one or a range (8000-8999).\n"
            "With --method the rule allows such requests alone, and TLS with the host is\n"
            "opened to see them. Running sandboxes obey at once. A deny wins over every\n"
            "allow.\n",
        .examples = "sbx policy allow -g api.example.com\n"
                    "sbx policy allow demo localhost:11434\n"
                    "sbx policy allow -g git.example.com --method GET,HEAD --path '/team/**'",
        .flags = cli_flags_policy_allow,
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_policy_allow,
    },
    {
        .path = "policy deny",
        .usage = "[flags] [-g | SANDBOX] RESOURCE...",
        .summary = "Keep sandboxes from reaching a host",
        .details =
            "RESOURCE as for policy allow. A deny wins over every allow, whichever came\n"
            "first; what --except names is not denied by this rule, and needs an allow rule\n"
            "as everything does.\n",
        .examples = "sbx policy deny -g '**.example.net'\n"
                    "sbx policy deny -g '**.example.org' --except wiki.example.org\n"
                    "sbx policy deny demo git.example.com --method POST,PUT,PATCH,DELETE",
        .flags = cli_flags_policy_deny,
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_policy_deny,
    },
    {
        .path = "policy rm",
        .usage = "[flags] [-g | SANDBOX] RULE...",
        .summary = "Remove rules",
        .details =
            "RULE is an id that policy ls shows, a pattern (all its rules), or a whole rule.\n",
        .examples = "sbx policy rm -g api.example.com\n"
                    "sbx policy rm -g --resource git.example.com --method GET,HEAD",
        .flags = cli_flags_policy_rm,
        .max_words = ANY,
        .run = cmd_policy_rm,
    },
    {
        .path = "policy check",
        .usage = "[flags] [SANDBOX] TARGET",
        .summary = "Say whether a target is allowed, and by which rule",
        .details = "TARGET is host, host:port or a URL. Says what would change the answer, too.\n"
                   "Exit status 0 when allowed, 1 when denied.\n",
        .examples = "sbx policy check example.com:443\n"
                    "sbx policy check https://git.example.com/team/a --method POST\n"
                    "sbx policy check demo localhost:11434",
        .flags = cli_flags_policy_check,
        .min_words = 1,
        .max_words = 3,
        .run = cmd_policy_check,
    },
    {
        .path = "policy host",
        .usage = "add|ls|rm [flags] [-g | SANDBOX] [NAME [ADDRESS[:PORT]]]",
        .summary = "Say what address a name leads to",
        .details =
            "For names that public servers do not know, and for tests. The address counts\n"
            "as named by you: private and loopback ones are reached as well, where a rule\n"
            "allows the name. With PORT, connections to any port of the name go to that one.\n",
        .examples = "sbx policy host add -g git.example.com 10.1.2.3\n"
                    "sbx policy host add demo api.example.com 127.0.0.1:8443\n"
                    "sbx policy host ls demo\n"
                    "sbx policy host rm -g git.example.com",
        .choices = "add ls rm",
        .flags = cli_flags_policy_host,
        .min_words = 1,
        .max_words = 4,
        .run = cmd_policy_host,
    },
    {
        .path = "policy log",
        .usage = "[flags] [SANDBOX]",
        .summary = "Show what sandboxes reached and what was refused",
        .details = "One line for each host: how often, when last, and the rule that decided.\n"
                   "Logs of removed sandboxes stay. With --verify the exit status is 1 when a log\n"
                   "is not as it was written.\n",
        .examples = "sbx policy log\n"
                    "sbx policy log demo --denied --since 10m\n"
                    "sbx policy log demo --follow\n"
                    "sbx policy log --verify",
        .flags = cli_flags_policy_log,
        .max_words = 1,
        .run = cmd_policy_log,
    },
    {
        .path = "secret set",
        .usage = "[flags] [-g | SANDBOX] SERVICE",
        .summary = "Keep the secret of a service that kits name",
        .details = "The value is read from standard input, or asked for at a terminal without\n"
                   "showing it.\n",
        .examples = "sbx secret set -g anthropic\n"
                    "printenv TOKEN | sbx secret set demo github",
        .flags = cli_flags_secret_set,
        .min_words = 1,
        .max_words = ANY,
        .run = cmd_secret_set,
    },
    {
        .path = "secret set-custom",
        .usage = "[flags] [-g | SANDBOX]",
        .summary = "Keep a secret for hosts of your own choice",
        .details =
            "Inside, the variable holds a placeholder; the proxy replaces it on the way to\n"
            "the host. With --scheme or --header the proxy writes the field itself, whatever\n"
            "the sandbox sends. Of several rules for a host the first that matches a request\n"
            "decides: --add appends one. A preset brings the rules of a forge or a model\n"
            "service, for its own hosts or those of --host. The host must be allowed by the\n"
            "policy as well.\n",
        .examples = "sbx secret set-custom -g --host localhost:11434 --env OPENAI_API_KEY\n"
                    "sbx secret set-custom -g --preset gitlab --host git.example.com --env "
                    "GITLAB_TOKEN\n"
                    "sbx secret set-custom -g --host api.example.com --path '/v2/**' --header "
                    "X-Token --env TOKEN",
        .flags = cli_flags_secret_set_custom,
        .max_words = ANY,
        .run = cmd_secret_set_custom,
    },
    {
        .path = "secret ls",
        .usage = "[flags] [SANDBOX]",
        .summary = "List secrets by name; of a long value its first four characters",
        .examples = "sbx secret ls",
        .flags = cli_flags_secret_ls,
        .max_words = 1,
        .run = cmd_secret_ls,
    },
    {
        .path = "secret rm",
        .usage = "[flags] [-g | SANDBOX] [SERVICE]",
        .summary = "Remove a secret",
        .examples = "sbx secret rm -g anthropic\n"
                    "sbx secret rm -g --host localhost:11434",
        .flags = cli_flags_secret_rm,
        .max_words = 2,
        .run = cmd_secret_rm,
    },
    {
        .path = "settings ls",
        .usage = "[flags]",
        .summary = "List the settings, and where their values are from",
        .examples = "sbx settings ls\nsbx settings ls --json",
        .flags = cli_flags_json,
        .run = cmd_settings_ls,
    },
    {
        .path = "settings get",
        .usage = "KEY",
        .summary = "Show what a setting was set to",
        .details = "Passwords are shown as ***. Exit status 1 when it is not set.\n",
        .examples = "sbx settings get proxy.upstream",
        .min_words = 1,
        .max_words = 1,
        .run = cmd_settings_get,
    },
    {
        .path = "settings set",
        .usage = "KEY [VALUE]",
        .summary = "Set what holds for every sandbox",
        .details =
            "proxy.upstream URL   what all connections go through: http://HOST:PORT, https,\n"
            "                     socks5 or socks5h, or direct; USER:PASSWORD@ before HOST\n"
            "proxy.no-proxy LIST  hosts that are reached without it, with commas between them\n"
            "tls.extra-ca FILE    certificates (PEM) to trust besides the system's, out here\n"
            "                     and inside; they are copied\n"
            "isolation KIND       what new sandboxes are: auto, vm or ns\n"
            "Without VALUE it is read from standard input, or asked for at a terminal without\n"
            "showing it: the way for a URL with a password. Running sandboxes obey at once.\n",
        .examples = "sbx settings set proxy.upstream http://proxy.corp.example:3128\n"
                    "sbx settings set proxy.no-proxy corp.example,10.0.0.0/8\n"
                    "sbx settings set tls.extra-ca corp-root.pem",
        .choices = SETTING_KEYS,
        .min_words = 1,
        .max_words = 2,
        .run = cmd_settings_set,
    },
    {
        .path = "settings rm",
        .usage = "KEY",
        .summary = "Forget a setting",
        .examples = "sbx settings rm proxy.upstream",
        .choices = SETTING_KEYS,
        .min_words = 1,
        .max_words = 1,
        .run = cmd_settings_rm,
    },
    {
        .path = "kit validate",
        .usage = "[flags] KIT",
        .summary = "Check a kit's spec.yaml",
        .details =
            "KIT is a directory that holds spec.yaml. The first error and every warning are\n"
            "told with line and column. Exit status 1 when the kit is not valid.\n",
        .examples = "sbx kit validate examples/biome-lint\nsbx kit validate --json ./my-kit",
        .flags = cli_flags_json,
        .min_words = 1,
        .max_words = 1,
        .run = cmd_kit_validate,
    },
    {
        .path = "kit inspect",
        .usage = "[flags] KIT",
        .summary = "Show what a kit would do, without doing it",
        .details = "Hosts, credentials (where they would be looked for, never their values),\n"
                   "variables, commands with their lines, files.\n",
        .examples =
            "sbx kit inspect examples/biome-lint\nsbx kit inspect --json examples/biome-lint",
        .flags = cli_flags_json,
        .min_words = 1,
        .max_words = 1,
        .run = cmd_kit_inspect,
    },
    {
        .path = "kit log",
        .usage = "SANDBOX",
        .summary = "Show the output of a sandbox's install and startup steps",
        .examples = "sbx kit log demo",
        .min_words = 1,
        .max_words = 1,
        .run = cmd_kit_log,
    },
    {
        .path = "vm kernel",
        .usage = "[flags]",
        .summary = "Show the kernel of virtual machines, or build a small one",
        .details =
            "It is, in this order, the one that SBX_VM_KERNEL names, one built by --build,\n"
            "one installed with sbx, or one of the system's. Building takes some minutes and\n"
            "the package linux-source-6.1, and needs no root.\n",
        .examples = "sbx vm kernel\nsbx vm kernel --build --jobs 2",
        .flags = cli_flags_vm_kernel,
        .run = cmd_vm_kernel,
    },
    {
        .path = "doctor",
        .usage = "[flags]",
        .summary = "Show what this machine offers to sandboxes, and what would help",
        .details =
            "Tries each part of a sandbox, changes nothing and needs no root. Exit status 1\n"
            "when no sandbox could be made.\n",
        .examples = "sbx doctor\nsbx doctor --json",
        .flags = cli_flags_doctor,
        .run = cmd_doctor,
    },
    {
        .path = "completion",
        .usage = "bash|zsh|fish",
        .summary = "Print a completion script for a shell",
        .examples = "source <(sbx completion bash)",
        .choices = "bash zsh fish",
        .min_words = 1,
        .max_words = 1,
        .run = cmd_completion,
    },
    {
        .path = "version",
        .usage = "[flags]",
        .summary = "Show the version",
        .flags = cli_flags_json,
        .run = cmd_version,
    },
    {
        .path = "help",
        .usage = "[COMMAND...]",
        .summary = "Show help on sbx or on a command",
        .examples = "sbx help policy allow",
        .max_words = 3,
        .run = cmd_help,
    },
    {0},
};
