/* SPDX-License-Identifier: Apache-2.0
 * Runs inside a sandbox and tries what must not work.  For each attempt it prints a line: its name
 * and OK (it worked), the name of the error, or the signal that ended it (each attempt is made in a
 * process of its own).  `probe caps` prints the capabilities and ids that it runs with. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* What each attempt returns: 0 when it worked, else an error's number, or this. */
enum { CONTAINED = 4000 };

static int result(long r)
{
    return r < 0 ? errno : 0;
}

/* ---- process 1 ---- */

static int ptrace_1(void)
{
    return result(ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static int read_memory_of_1(void)
{
    char byte;
    struct iovec here = {&byte, 1};
    struct iovec there = {(void *)0x400000, 1};
    return result(process_vm_readv(1, &here, 1, &there, 1, 0));
}

static int take_descriptor_of_1(void)
{
    int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);
    return result(syscall(SYS_pidfd_getfd, pidfd, 3, 0));
}

static int open_of_1(const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/1/%s", name);
    return result(open(path, flags));
}

static int root_of_1(void)
{
    return open_of_1("root/etc", O_RDONLY);
}
static int cwd_of_1(void)
{
    return open_of_1("cwd/etc", O_RDONLY);
}
static int exe_of_1(void)
{
    return open_of_1("exe", O_RDONLY);
}
static int descriptors_of_1(void)
{
    char target[64];
    return result(readlink("/proc/1/fd/3", target, sizeof(target)));
}
static int mem_of_1(void)
{
    return open_of_1("mem", O_RDWR);
}
static int environ_of_1(void)
{
    return open_of_1("environ", O_RDONLY);
}
static int namespace_of_1(void)
{
    return open_of_1("ns/net", O_RDONLY);
}
static int map_ids_of_1(void)
{
    int fd = open("/proc/1/uid_map", O_WRONLY);
    return fd < 0 ? errno : result(write(fd, "0 0 1\n", 6));
}

/* ---- namespaces and mounts ---- */

static int unshare_one(int flag)
{
    return result(unshare(flag));
}
static int unshare_user(void)
{
    return unshare_one(CLONE_NEWUSER);
}
static int unshare_mount(void)
{
    return unshare_one(CLONE_NEWNS);
}
static int unshare_net(void)
{
    return unshare_one(CLONE_NEWNET);
}
static int unshare_pid(void)
{
    return unshare_one(CLONE_NEWPID);
}

static int clone_user(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        _exit(0);
    }
    return result(pid);
}

static int clone3_user(void)
{
    struct clone_args {
        uint64_t words[11];
    } args = {{CLONE_NEWUSER}};
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        _exit(0);
    }
    return result(pid);
}

static int setns_own(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY);
    return result(setns(fd, 0));
}

static int mount_tmpfs(void)
{
    return result(mount("x", "/mnt", "tmpfs", 0, NULL));
}
static int mount_proc(void)
{
    return result(mount("proc", "/mnt", "proc", 0, NULL));
}
static int mount_bind(void)
{
    return result(mount("/etc", "/mnt", NULL, MS_BIND, NULL));
}
static int remount_sys(void)
{
    return result(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
}
static int unmount_sys(void)
{
    return result(umount2("/proc/sys", MNT_DETACH));
}
static int open_a_tree(void)
{
    return result(syscall(SYS_open_tree, AT_FDCWD, "/etc", 1));
}
static int open_a_file_system(void)
{
    return result(syscall(SYS_fsopen, "tmpfs", 0));
}
static int change_a_mount(void)
{
    uint64_t attributes[4] = {0, 1};
    return result(
        syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, attributes, sizeof(attributes)));
}
static int move_a_mount(void)
{
    return result(syscall(SYS_move_mount, AT_FDCWD, "/proc/sys", AT_FDCWD, "/mnt", 0));
}
static int pivot(void)
{
    return result(syscall(SYS_pivot_root, ".", "."));
}

/* The classic way out of a chroot: a directory that is open outside of the new root. */
static int leave_by_chroot(void)
{
    char jail[] = "/tmp/jail.XXXXXX";
    struct stat before, after;
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    if (stat("/", &before) < 0 || !mkdtemp(jail) || chroot(jail) < 0 || fchdir(fd) < 0) {
        return errno;
    }
    for (int i = 0; i < 64; i++) {
        if (chdir("..") < 0) {
            return errno;
        }
    }
    if (chroot(".") < 0 || stat("/", &after) < 0) {
        return errno;
    }
    rmdir(jail);
    bool same = before.st_dev == after.st_dev && before.st_ino == after.st_ino;
    return same && access("/opt/sbx/bin/sudo", F_OK) == 0 ? CONTAINED : 0;
}

static int open_by_handle(void)
{
    struct {
        struct file_handle head;
        unsigned char bytes[8];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}};
    int fd = open("/etc", O_RDONLY);
    return result(open_by_handle_at(fd, &handle.head, O_RDONLY));
}
static int name_to_handle(void)
{
    union {
        struct file_handle head;
        char room[sizeof(struct file_handle) + 128];
    } handle = {.head.handle_bytes = 128};
    int id;
    return result(name_to_handle_at(AT_FDCWD, "/etc", &handle.head, &id, 0));
}

/* ---- devices ---- */

static int make_device(mode_t kind, unsigned major, unsigned minor)
{
    char path[] = "/tmp/device.XXXXXX";
    if (!mkdtemp(path) || chdir(path) < 0) {
        return EIO;
    }
    return result(mknod("x", kind | 0666, makedev(major, minor)));
}
static int make_disk(void)
{
    return make_device(S_IFBLK, 254, 0);
}
static int make_memory(void)
{
    return make_device(S_IFCHR, 1, 1);
}
static int make_kernel_log(void)
{
    return make_device(S_IFCHR, 1, 11);
}
static int io_ports(void)
{
#ifdef __x86_64__
    return result(syscall(SYS_iopl, 3));
#else
    return EPERM;
#endif
}

/* ---- keys, programs in the kernel, machine ---- */

static int keyring(void)
{
    return result(syscall(SYS_keyctl, 0, -3, 0));
}
static int new_key(void)
{
    return result(syscall(SYS_add_key, "user", "x", "y", 1, -3));
}
static int find_key(void)
{
    return result(syscall(SYS_request_key, "user", "x", NULL, 0));
}
static int uring(void)
{
    uint64_t params[32] = {0};
    return result(syscall(SYS_io_uring_setup, 4, params));
}
static int bpf_map(void)
{
    union bpf_attr attr = {
        .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return result(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}
static int perf(void)
{
    struct perf_event_attr attr = {.size = sizeof(attr), .exclude_kernel = 1, .exclude_hv = 1};
    return result(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}
static int user_faults(void)
{
    return result(syscall(SYS_userfaultfd, O_CLOEXEC | 1));
}
static int fanotify(void)
{
    return result(syscall(SYS_fanotify_init, 0x200, O_RDONLY));
}
static int kernel_log(void)
{
    char data[64];
    return result(syscall(SYS_syslog, 3, data, sizeof(data)));
}
static int load_module(void)
{
    return result(syscall(SYS_init_module, "", 0, ""));
}
static int load_kernel(void)
{
    return result(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}
static int restart(void)
{
    return result(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
                          LINUX_REBOOT_CMD_CAD_OFF, NULL));
}
static int set_clock(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return result(settimeofday(&now, NULL));
}
static int swap_off(void)
{
    return result(syscall(SYS_swapoff, "/nowhere"));
}
static int account_processes(void)
{
    return result(acct(NULL));
}
static int rename_host(void)
{
    return result(sethostname("evil", 4));
}
static int raise_priority(void)
{
    return result(setpriority(PRIO_PROCESS, 0, -20));
}
static int real_time(void)
{
    struct sched_param param = {.sched_priority = 1};
    return result(sched_setscheduler(0, SCHED_FIFO, &param));
}
static int compare_with_1(void)
{
    return result(syscall(SYS_kcmp, getpid(), 1, 2, 0, 0));
}

/* ---- terminals ---- */

static int terminal(void)
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    int unlock = 0;
    ioctl(master, TIOCSPTLCK, &unlock);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    return slave;
}
static int type_into_terminal(void)
{
    return result(ioctl(terminal(), TIOCSTI, "x"));
}
/* The kernel takes the lower half of the request only; a filter that compares all of it is blind.
 */
static int type_with_high_bits(void)
{
    return result(syscall(SYS_ioctl, terminal(), UINT64_C(0x100000000) | TIOCSTI, "x"));
}
static int paste_into_console(void)
{
    char selection = 3;
    return result(ioctl(terminal(), TIOCLINUX, &selection));
}

/* ---- sockets ---- */

static int family(int number, int type)
{
    return result(socket(number, type, 0));
}
static int packet(void)
{
    return family(AF_PACKET, SOCK_RAW);
}
static int vsock(void)
{
    return family(AF_VSOCK, SOCK_STREAM);
}
static int crypto(void)
{
    return family(AF_ALG, SOCK_SEQPACKET);
}
static int bluetooth(void)
{
    return family(AF_BLUETOOTH, SOCK_RAW);
}
static int xdp(void)
{
    return family(AF_XDP, SOCK_RAW);
}
static int key_management(void)
{
    return family(AF_KEY, SOCK_RAW);
}
static int can_bus(void)
{
    return family(AF_CAN, SOCK_RAW);
}
static int pair_of_tipc(void)
{
    int pair[2];
    return result(socketpair(AF_TIPC, SOCK_STREAM, 0, pair));
}
static int pair_of_vsock(void)
{
    int pair[2];
    return result(socketpair(AF_VSOCK, SOCK_STREAM, 0, pair));
}
static int raw4(void)
{
    return result(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}
static int raw6(void)
{
    return result(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
}
static int raw_ip(void)
{
    return result(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
}
static int ping4(void)
{
    return result(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
}
static int ping6(void)
{
    return result(socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
}

/* ---- netlink: undoing the capture ---- */

/* Sends a request and returns the error of its acknowledgement. */
static int ask_kernel(int protocol, uint16_t type, uint16_t flags, const void *body, size_t len)
{
    struct {
        struct nlmsghdr head;
        char body[256];
    } message = {.head = {.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + len),
                          .nlmsg_type = type,
                          .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)}};
    memcpy(message.body, body, len);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
    if (fd < 0 || sendto(fd, &message, message.head.nlmsg_len, 0, (struct sockaddr *)&kernel,
                         sizeof(kernel)) < 0) {
        return errno;
    }
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[512];
    } reply;
    struct timeval wait = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (recv(fd, &reply, sizeof(reply), 0) < 0) {
        return errno;
    }
    return reply.head.nlmsg_type == NLMSG_ERROR ? -reply.error.error : EPROTO;
}

static int delete_capture(void)
{
    struct nfgenmsg body = {.nfgen_family = AF_INET};
    return ask_kernel(NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, 0, &body,
                      sizeof(body));
}
static int begin_batch(void)
{
    struct nfgenmsg body = {.res_id = htons(NFNL_SUBSYS_NFTABLES)};
    return ask_kernel(NETLINK_NETFILTER, NFNL_MSG_BATCH_BEGIN, 0, &body, sizeof(body));
}
static int delete_route(void)
{
    struct rtmsg body = {.rtm_family = AF_INET,
                         .rtm_table = RT_TABLE_LOCAL,
                         .rtm_type = RTN_LOCAL,
                         .rtm_scope = RT_SCOPE_HOST};
    return ask_kernel(NETLINK_ROUTE, RTM_DELROUTE, 0, &body, sizeof(body));
}
static int loopback_down(void)
{
    struct ifinfomsg body = {.ifi_index = 1, .ifi_change = IFF_UP};
    return ask_kernel(NETLINK_ROUTE, RTM_NEWLINK, 0, &body, sizeof(body));
}
static int new_link(void)
{
    struct ifinfomsg body = {0};
    return ask_kernel(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
}

/* ---- other ways to call the kernel ---- */

static int x32_call(void)
{
#ifdef __x86_64__
    return result(syscall(0x40000000 | SYS_getpid));
#else
    raise(SIGSYS);
    return 0;
#endif
}
static int i386_call(void)
{
#ifdef __x86_64__
    long r = 20; /* getpid */
    __asm__ volatile("int $0x80" : "+a"(r) : : "memory");
    return r < 0 ? (int)-r : 0;
#else
    raise(SIGSYS);
    return 0;
#endif
}
static int unknown_call(void)
{
    return result(syscall(999));
}

#define ATTEMPT(name)                                                                              \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct {
    const char *name;
    int (*fn)(void);
} attempts[] = {
    ATTEMPT(ptrace_1),
    ATTEMPT(read_memory_of_1),
    ATTEMPT(take_descriptor_of_1),
    ATTEMPT(root_of_1),
    ATTEMPT(cwd_of_1),
    ATTEMPT(exe_of_1),
    ATTEMPT(descriptors_of_1),
    ATTEMPT(mem_of_1),
    ATTEMPT(environ_of_1),
    ATTEMPT(namespace_of_1),
    ATTEMPT(map_ids_of_1),
    ATTEMPT(unshare_user),
    ATTEMPT(unshare_mount),
    ATTEMPT(unshare_net),
    ATTEMPT(unshare_pid),
    ATTEMPT(clone_user),
    ATTEMPT(clone3_user),
    ATTEMPT(setns_own),
    ATTEMPT(mount_tmpfs),
    ATTEMPT(mount_proc),
    ATTEMPT(mount_bind),
    ATTEMPT(remount_sys),
    ATTEMPT(unmount_sys),
    ATTEMPT(open_a_tree),
    ATTEMPT(open_a_file_system),
    ATTEMPT(change_a_mount),
    ATTEMPT(move_a_mount),
    ATTEMPT(pivot),
    ATTEMPT(leave_by_chroot),
    ATTEMPT(open_by_handle),
    ATTEMPT(name_to_handle),
    ATTEMPT(make_disk),
    ATTEMPT(make_memory),
    ATTEMPT(make_kernel_log),
    ATTEMPT(io_ports),
    ATTEMPT(keyring),
    ATTEMPT(new_key),
    ATTEMPT(find_key),
    ATTEMPT(uring),
    ATTEMPT(bpf_map),
    ATTEMPT(perf),
    ATTEMPT(user_faults),
    ATTEMPT(fanotify),
    ATTEMPT(kernel_log),
    ATTEMPT(load_module),
    ATTEMPT(load_kernel),
    ATTEMPT(restart),
    ATTEMPT(set_clock),
    ATTEMPT(swap_off),
    ATTEMPT(account_processes),
    ATTEMPT(rename_host),
    ATTEMPT(raise_priority),
    ATTEMPT(real_time),
    ATTEMPT(compare_with_1),
    ATTEMPT(type_into_terminal),
    ATTEMPT(type_with_high_bits),
    ATTEMPT(paste_into_console),
    ATTEMPT(packet),
    ATTEMPT(vsock),
    ATTEMPT(crypto),
    ATTEMPT(bluetooth),
    ATTEMPT(xdp),
    ATTEMPT(key_management),
    ATTEMPT(can_bus),
    ATTEMPT(pair_of_tipc),
    ATTEMPT(pair_of_vsock),
    ATTEMPT(raw4),
    ATTEMPT(raw6),
    ATTEMPT(raw_ip),
    ATTEMPT(ping4),
    ATTEMPT(ping6),
    ATTEMPT(delete_capture),
    ATTEMPT(begin_batch),
    ATTEMPT(delete_route),
    ATTEMPT(loopback_down),
    ATTEMPT(new_link),
    ATTEMPT(x32_call),
    ATTEMPT(i386_call),
    ATTEMPT(unknown_call),
};

static void try_one(const char *name, int (*fn)(void))
{
    int pipe_fds[2];
    int error = 0;
    if (pipe(pipe_fds) < 0) {
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        error = fn();
        _exit(write(pipe_fds[1], &error, sizeof(error)) != sizeof(error));
    }
    close(pipe_fds[1]);
    int status;
    bool told = read(pipe_fds[0], &error, sizeof(error)) == sizeof(error);
    close(pipe_fds[0]);
    waitpid(pid, &status, 0);
    const char *text = error == CONTAINED ? "CONTAINED" : error ? strerrorname_np(error) : "OK";
    if (!told) {
        text = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "NOTHING";
    }
    printf("%s %s\n", name, text ? text : "UNKNOWN");
    fflush(stdout);
}

static int print_powers(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) < 0) {
        return 1;
    }
    printf("%u %llx\n", geteuid(), (unsigned long long)data[1].effective << 32 | data[0].effective);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "caps") == 0) {
        return print_powers();
    }
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        try_one(attempts[i].name, attempts[i].fn);
    }
    return 0;
}
