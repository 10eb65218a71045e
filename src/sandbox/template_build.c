/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/template_build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/fs.h"

/* Names below /etc.  Left out on purpose: whatever can hold a credential or names other users
 * (shadow, ssh, gitconfig, environment, apt/auth.conf, ssl/private ...); and of these only what
 * everyone on the host may read. */
static const char *const etc_names[] = {
    "alternatives",
    "apt",
    "bash.bashrc",
    "bash_completion",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "dconf",
    "debconf.conf",
    "debian_version",
    "deluser.conf",
    "adduser.conf",
    "default",
    "dpkg",
    "emacs",
    "fonts",
    "gai.conf",
    "ghostscript",
    "gnutls",
    "host.conf",
    "inputrc",
    "issue",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "locale.gen",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "mailcap",
    "manpath.config",
    "mime.types",
    "mke2fs.conf",
    "nanorc",
    "networks",
    "openssl",
    "os-release",
    "pam.conf",
    "pam.d",
    "perl",
    "pki",
    "profile.d",
    "protocols",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "rpc",
    "selinux",
    "services",
    "shells",
    "skel",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
    "wgetrc",
    "xattr.conf",
    "xdg",
    "zsh",
};
static const char *const etc_left_out[] = {"private", "auth.conf", "auth.conf.d"};

enum { COPY_DEPTH_MAX = 8, COPY_FILE_MAX = 64 << 20 };

/* ---- copying the allow-list ---- */

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
    SB_CLEANUP(fd) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0) {
        return errno == EACCES ? 0 : -errno;
    }
    SB_CLEANUP(fd)
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0755);
    if (to < 0) {
        return -errno;
    }
    for (off_t left = st->st_size; left > 0;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)left);
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        left -= n;
    }
    return 0;
}

static int copy_link(int from_dir, int to_dir, const char *name)
{
    char target[4096];
    ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (n < 0) {
        return -errno;
    }
    target[n] = '\0';
    return symlinkat(target, to_dir, name) < 0 ? -errno : 0;
}

static int copy_entry(int from_dir, int to_dir, const char *name, int depth);

static int copy_dir(int from_dir, int to_dir, const char *name, int depth)
{
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0) {
        return errno == EACCES ? 0 : -errno;
    }
    DIR *dir = fdopendir(from);
    if (mkdirat(to_dir, name, 0755) < 0) {
        closedir(dir);
        return -errno;
    }
    SB_CLEANUP(fd) int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = to < 0 ? -errno : 0;
    for (struct dirent *e; r == 0 && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            r = copy_entry(from, to, e->d_name, depth + 1);
        }
    }
    closedir(dir);
    return r;
}

/* Anything that is not a world-readable file or directory, or a link, is passed over. */
static int copy_entry(int from_dir, int to_dir, const char *name, int depth)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(etc_left_out); i++) {
        if (strcmp(name, etc_left_out[i]) == 0) {
            return 0;
        }
    }
    struct stat st;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (S_ISLNK(st.st_mode)) {
        return copy_link(from_dir, to_dir, name);
    }
    if (S_ISDIR(st.st_mode) && (st.st_mode & S_IXOTH) && depth < COPY_DEPTH_MAX) {
        return copy_dir(from_dir, to_dir, name, depth);
    }
    if (S_ISREG(st.st_mode) && (st.st_mode & S_IROTH) && st.st_size <= COPY_FILE_MAX) {
        return copy_file(from_dir, to_dir, name, &st);
    }
    return 0;
}

static int copy_etc(int root)
{
    SB_CLEANUP(fd) int from = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SB_CLEANUP(fd) int to = openat(root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || to < 0) {
        return -errno;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(etc_names); i++) {
        r = copy_entry(from, to, etc_names[i], 0);
    }
    return r;
}

/* ---- what is made ---- */

static int put_file(int root, const char *path, const char *text, mode_t mode)
{
    SB_CLEANUP(fd) int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    int r = sb_write_all(fd, text, strlen(text));
    return r < 0 ? r : (fchmod(fd, mode) < 0 ? -errno : 0);
}

/* The host's system users or groups (programs look them up by name) without its people, then agent.
 */
static int put_accounts(int root, const char *host_file, const char *path, const char *agent_line)
{
    SB_CLEANUP(buf) struct sb_buf in;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&in, 1 << 20);
    sb_buf_init(&out, 1 << 20);
    if (sb_read_file(AT_FDCWD, host_file, &in, NULL) == 0) {
        char *rest = in.data;
        for (char *line; (line = strsep(&rest, "\n"));) {
            char *name_end = strchr(line, ':');
            char *id = name_end ? strchr(name_end + 1, ':') : NULL;
            unsigned long value = id ? strtoul(id + 1, NULL, 10) : ULONG_MAX;
            bool is_system = value < IDMAP_AGENT || value == 65534;
            if (!is_system || strncmp(line, "agent:", 6) == 0) {
                continue;
            }
            char *members = strcmp(path, "etc/group") == 0 ? strchr(id + 1, ':') : NULL;
            sb_buf_printf(&out, "%.*s\n", members ? (int)(members + 1 - line) : (int)strlen(line),
                          line);
        }
    } else {
        sb_buf_puts(&out, agent_line[0] ? "root:x:0:0:root:/root:/bin/bash\n" : "");
    }
    sb_buf_puts(&out, agent_line);
    return put_file(root, path, out.data, 0644);
}

static int put_sudo(int root, int init_fd, enum idmap_mode mode)
{
    SB_CLEANUP(fd)
    int fd = openat(root, "opt/sbx/bin/sudo", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    struct stat st;
    if (fd < 0 || fstat(init_fd, &st) < 0) {
        return -errno;
    }
    off_t offset = 0;
    while (offset < st.st_size) {
        ssize_t n = sendfile(fd, init_fd, &offset, (size_t)(st.st_size - offset));
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
    }
    return fchmod(fd, mode == IDMAP_SINGLE ? 0755 : 04755) < 0 ? -errno : 0;
}

static const struct {
    const char *path;
    mode_t mode;
    bool agents;
} directories[] = {
    {"etc", 0755, false},
    {"etc/opt", 0755, false},
    {"usr", 0755, false},
    {"opt", 0755, false},
    {"opt/sbx", 0755, false},
    {"opt/sbx/bin", 0755, false},
    {"home", 0755, false},
    {"home/agent", 0755, true},
    {"home/agent/.local", 0755, true},
    {"home/agent/.local/bin", 0755, true},
    {"root", 0755, false},
    {"mnt", 0755, false},
    {"media", 0755, false},
    {"srv", 0755, false},
    {"proc", 0555, false},
    {"sys", 0555, false},
    {"dev", 0755, false},
    {"run", 0755, false},
    {"tmp", 01777, false},
    {"var", 0755, false},
    {"var/tmp", 01777, false},
    {"var/log", 0755, false},
    {"var/log/apt", 0755, false},
    {"var/lib", 0755, false},
    {"var/lib/dpkg", 0755, false},
    {"var/lib/apt", 0755, false},
    {"var/lib/apt/lists", 0755, false},
    {"var/lib/apt/lists/partial", 0755, false},
    {"var/cache", 0755, false},
    {"var/cache/apt", 0755, false},
    {"var/cache/apt/archives", 0755, false},
    {"var/cache/apt/archives/partial", 0755, false},
    {"var/spool", 0755, false},
    {"var/opt", 0755, false},
};

static int make_directories(int root)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(directories); i++) {
        const char *path = directories[i].path;
        if (mkdirat(root, path, 0755) < 0 || fchmodat(root, path, directories[i].mode, 0) < 0) {
            return -errno;
        }
        if (directories[i].agents && fchownat(root, path, IDMAP_AGENT, IDMAP_AGENT, 0) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* /bin, /sbin, /lib, /lib64 ... as on the host, where /usr is merged. */
static int make_links(int root)
{
    static const char *const names[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
    SB_CLEANUP(fd) int host = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        struct stat st;
        if (fstatat(host, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        int r = S_ISLNK(st.st_mode) ? copy_link(host, root, names[i]) : -ENOTSUP;
        if (r < 0) {
            return r;
        }
    }
    if (symlinkat("/run", root, "var/run") < 0 || symlinkat("/run/lock", root, "var/lock") < 0) {
        return -errno;
    }
    return 0;
}

static int put_home(int root)
{
    static const char *const files[] = {".bashrc", ".profile"};
    SB_CLEANUP(fd) int skel = open("/etc/skel", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SB_CLEANUP(fd) int home = openat(root, "home/agent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; skel >= 0 && i < SB_ARRAY_LEN(files); i++) {
        if (copy_entry(skel, home, files[i], 0) < 0 ||
            fchownat(home, files[i], IDMAP_AGENT, IDMAP_AGENT, AT_SYMLINK_NOFOLLOW) < 0) {
            return errno == ENOENT ? 0 : -errno;
        }
    }
    return 0;
}

static int put_generated(int root)
{
    int r = put_accounts(root, "/etc/passwd", "etc/passwd",
                         "agent:x:1000:1000:agent:/home/agent:/bin/bash\n");
    r = r < 0 ? r : put_accounts(root, "/etc/group", "etc/group", "agent:x:1000:\n");
    r = r < 0 ? r
              : put_file(root, "etc/nsswitch.conf",
                         "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
                         "networks: files\nprotocols: files\nservices: files\n",
                         0644);
    /* The proxy answers DNS, from the policy. */
    r = r < 0 ? r : put_file(root, "etc/resolv.conf", "nameserver 127.0.0.1\n", 0644);
    r = r < 0 ? r
              : put_file(root, "etc/sudoers",
                         "Defaults !env_reset, !use_pty\nroot ALL=(ALL:ALL) ALL\n"
                         "agent ALL=(ALL:ALL) NOPASSWD: ALL\n",
                         0440);
    return r;
}

/* A login shell begins with the PATH that /etc/profile sets, without the sandbox's sudo and without
 * what a kit or the caller has set. So ours is a copy of the host's between these two: the PATH
 * that the shell was started with comes first, then what the system has besides. */
static const char profile_head[] = "# sbx: kept for the end of this file.\n"
                                   "sbx_path=${PATH-}\n\n";
static const char profile_tail[] = "\n# sbx: the PATH of this sandbox, then what was added above.\n"
                                   "case :$sbx_path: in\n"
                                   "*:/opt/sbx/bin:*) ;;\n"
                                   "*) sbx_path=/opt/sbx/bin:$sbx_path ;;\n"
                                   "esac\n"
                                   "sbx_rest=$PATH:\n"
                                   "while [ \"$sbx_rest\" ]; do\n"
                                   "  sbx_dir=${sbx_rest%%:*}\n"
                                   "  sbx_rest=${sbx_rest#*:}\n"
                                   "  case :$sbx_path: in\n"
                                   "  *:\"$sbx_dir\":*) ;;\n"
                                   "  *) sbx_path=$sbx_path:$sbx_dir ;;\n"
                                   "  esac\n"
                                   "done\n"
                                   "PATH=$sbx_path\n"
                                   "unset sbx_path sbx_rest sbx_dir\n";

static int put_profile(int root)
{
    SB_CLEANUP(buf) struct sb_buf text;
    SB_CLEANUP(buf) struct sb_buf host;
    sb_buf_init(&text, 1 << 20);
    sb_buf_init(&host, 1 << 19);
    SB_CLEANUP(fd) int fd = open("/etc/profile", O_RDONLY | O_CLOEXEC);
    struct stat st;
    bool is_public = fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & S_IROTH);
    int r = is_public ? sb_read_fd(fd, &host) : 0;
    sb_buf_puts(&text, profile_head);
    sb_buf_append(&text, host.data, host.len);
    sb_buf_puts(&text, profile_tail);
    return r < 0 ? r : put_file(root, "etc/profile", text.data, 0644);
}

/* What bash reads at each start: an interactive shell by the tail of its own file, another by
 * BASH_ENV (environment.c).  It is for what shall be in every shell of the sandbox from now on, and
 * its user may write it. */
static int put_persistent(int root)
{
    static const char name[] = "etc/sandbox-persistent.sh";
    static const char tail[] = "\n# sbx: see that file.\n[ ! -r /etc/sandbox-persistent.sh ] || "
                               ". /etc/sandbox-persistent.sh\n";
    int r = put_file(root, name, "# bash reads this at each start.\n", 0644);
    if (r == 0 && fchownat(root, name, IDMAP_AGENT, IDMAP_AGENT, 0) < 0) {
        r = -errno;
    }
    /* A link would lead to a file of the host. */
    enum { FLAGS = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC };
    SB_CLEANUP(fd) int fd = openat(root, "etc/bash.bashrc", FLAGS, 0644);
    if (r < 0 || (fd < 0 && errno == ELOOP)) {
        return r;
    }
    return fd < 0 ? -errno : sb_write_all(fd, tail, strlen(tail));
}

static int fill(int root, int init_fd, enum idmap_mode mode)
{
    int r = make_directories(root);
    r = r < 0 ? r : make_links(root);
    r = r < 0 ? r : copy_etc(root);
    r = r < 0 ? r : put_generated(root);
    r = r < 0 ? r : put_profile(root);
    r = r < 0 ? r : put_persistent(root);
    r = r < 0 ? r : put_home(root);
    return r < 0 ? r : put_sudo(root, init_fd, mode);
}

/* Runs with the ids that shall own the files. */
static int build_here(const char *path, int init_fd, enum idmap_mode mode)
{
    mode_t mask = umask(0);
    SB_CLEANUP(free) char *temp = sb_xasprintf("%s.new", path);
    sb_remove_tree(AT_FDCWD, temp);
    SB_CLEANUP(fd) int root = -1;
    int r = mkdir(temp, 0755) < 0 ? -errno : 0;
    if (r == 0) {
        root = open(temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = root < 0 ? -errno : fill(root, init_fd, mode);
    }
    if (r == 0 && rename(temp, path) < 0) {
        r = -errno;
    }
    if (r < 0) {
        sb_remove_tree(AT_FDCWD, temp);
    }
    umask(mask);
    return r;
}

struct build_request {
    const char *path;
    int init_fd;
    enum idmap_mode mode;
};

static int build_request(void *arg)
{
    const struct build_request *request = arg;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = build_here(request->path, request->init_fd, request->mode);
    if (r < 0) {
        sb_fail_errno(&err, -r, "build the host template '%s'", request->path);
        sb_err_print(err); /* into the supervisor's log */
    }
    return r;
}

int template_build(const struct idmap *map, const char *path, int init_fd, struct sb_err **err)
{
    struct build_request request = {path, init_fd, map->mode};
    int r = map->mode == IDMAP_ROOT ? build_here(path, init_fd, map->mode)
                                    : idmap_run_as(map, build_request, &request, err);
    if (r < 0 && map->mode == IDMAP_ROOT) {
        return sb_fail_errno(err, -r, "build the host template '%s'", path);
    }
    if (r < 0 && r != SB_ESTART) {
        sb_wrap(err, r, "build the host template '%s'", path);
    }
    if (r == -EACCES && map->mode == IDMAP_RANGE && err && *err && !(*err)->hint) {
        sb_hint(err, "the sandbox's ids must be able to go there: each directory on the way needs "
                     "to be open to others (chmod o+x), or yours and of your own group (chgrp)");
    }
    return r;
}
