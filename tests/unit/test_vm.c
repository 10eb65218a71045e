/* SPDX-License-Identifier: Apache-2.0
 * What a guest starts from: the archive, its modules, its kernel. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "vm/cpio.h"
#include "vm/cpu.h"
#include "vm/handout.h"
#include "vm/image.h"
#include "vm/initramfs.h"
#include "vm/modules.h"
#include "vm/unpack.h"

/* ---- cpio ---- */

static void test_cpio_form(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 4096);
    struct cpio cpio = {.out = &out};
    cpio_dir(&cpio, "d", 0755);
    cpio_file(&cpio, "d/file", 0644, "12345", 5);
    assert_int_equal(cpio_finish(&cpio), 0);
    static const char dir[] = "070701"
                              "00000001"
                              "000041ED"
                              "00000000"
                              "00000000"
                              "00000002"
                              "00000000"
                              "00000000"
                              "00000000"
                              "00000000"
                              "00000000"
                              "00000000"
                              "00000002"
                              "00000000"
                              "d\0";
    static const char file[] = "070701"
                               "00000002"
                               "000081A4"
                               "00000000"
                               "00000000"
                               "00000001"
                               "00000000"
                               "00000005"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000000"
                               "00000007"
                               "00000000"
                               "d/file\0\0\0\0"
                               "12345\0\0\0";
    assert_memory_equal(out.data, dir, sizeof(dir) - 1);
    assert_memory_equal(out.data + sizeof(dir) - 1, file, sizeof(file) - 1);
    assert_int_equal(out.len % 4, 0);
}

static void test_cpio_is_bounded(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 300);
    struct cpio cpio = {.out = &out};
    static const char data[200];
    cpio_file(&cpio, "f", 0644, data, sizeof(data));
    assert_true(cpio_finish(&cpio) < 0);
}

/* ---- modules ---- */

static const char dep[] =
    "kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/drivers/virtio/virtio_ring.ko "
    "kernel/drivers/virtio/virtio.ko\n"
    "kernel/fs/fuse/fuse.ko:\n"
    "kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/char/hw_random/rng-core.ko "
    "kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n"
    "kernel/drivers/virtio/virtio.ko:\n"
    "kernel/packed.ko.xz: kernel/fs/fuse/fuse.ko";
static const char builtin[] = "kernel/fs/ext4/ext4.ko\nkernel/fs/jbd2/jbd2.ko\n";

static void add(struct module_list *list, const char *name)
{
    assert_int_equal(modules_add(list, dep, builtin, name, NULL), 0);
}

static void test_modules_order(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "kernel/drivers/virtio/virtio.ko",
        "kernel/drivers/virtio/virtio_ring.ko",
        "kernel/fs/fuse/fuse.ko",
        "kernel/fs/fuse/virtiofs.ko",
        "kernel/drivers/char/hw_random/rng-core.ko",
        "kernel/drivers/char/hw_random/virtio-rng.ko",
        "kernel/packed.ko.xz",
    };
    SB_CLEANUP(module_list) struct module_list list = {0};
    add(&list, "virtiofs");
    add(&list, "ext4"); /* built in */
    add(&list, "virtio_rng");
    add(&list, "virtio-rng");
    add(&list, "packed");
    add(&list, "virtio");
    assert_int_equal(list.count, SB_ARRAY_LEN(expected));
    for (size_t i = 0; i < list.count; i++) {
        assert_string_equal(list.paths[i], expected[i]);
    }
}

static void test_modules_missing(void **state)
{
    (void)state;
    static const char *const names[] = {"", "virt", "virtiofs_", "ko", "kernel"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        SB_CLEANUP(module_list) struct module_list list = {0};
        struct sb_err *err = NULL;
        assert_int_equal(modules_add(&list, dep, builtin, names[i], &err), SB_ENOTFOUND);
        assert_int_equal(list.count, 0);
        sb_err_free(err);
    }
}

static void test_modules_bounded(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 16);
    sb_buf_puts(&text, "top.ko:");
    for (int i = 0; i < MODULES_MAX; i++) {
        sb_buf_printf(&text, " m%d.ko", i);
    }
    SB_CLEANUP(module_list) struct module_list list = {0};
    assert_int_equal(modules_add(&list, text.data, "", "top", NULL), SB_ELIMIT);
}

/* ---- kernels and what is made for them ---- */

static char home[] = "/tmp/sbx-test-vm.XXXXXX";

static void write_at(const char *name, const void *data, size_t len)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", home, name);
    assert_int_equal(sb_write_file_atomic(AT_FDCWD, path, data, len, 0644, NULL), 0);
}

/* A file with no more than the header of a bzImage. */
static void write_image(const char *name, const char *version)
{
    char image[8192] = "";
    memcpy(image + 0x202, "HdrS", 4);
    image[0x20e] = 0x00; /* 0x1000 + 0x200 */
    image[0x20f] = 0x10;
    snprintf(image + 0x1200, 512, "%s (builder) #1 SMP", version);
    write_at(name, image, sizeof(image));
}

static void test_kernel_is_read(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/image", home);
    write_image("image", "9.9.9-none");
    struct vm_kernel kernel;
    assert_int_equal(vm_kernel_open(path, &kernel, NULL), 0);
    assert_string_equal(kernel.version, "9.9.9-none");
    assert_null(kernel.modules);
    assert_int_equal(kernel.size, 8192);
    vm_kernel_done(&kernel);
}

/* What QEMU gets can be opened by anybody, also where the file cannot, and written by nobody, also
 * not by who owns the file. */
static void test_what_is_handed_out(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/image", home);
    static const mode_t modes[] = {0600, 0644};
    for (size_t i = 0; i < SB_ARRAY_LEN(modes); i++) {
        write_image("image", "9.9.9-none");
        assert_int_equal(chmod(path, modes[i]), 0);
        struct vm_kernel kernel;
        assert_int_equal(vm_kernel_open(path, &kernel, NULL), 0);
        assert_int_equal(vm_hand_out(&kernel.fd, path, false, NULL), 0);
        struct stat st;
        assert_int_equal(fstat(kernel.fd, &st), 0);
        assert_true(st.st_mode & S_IROTH);
        assert_int_equal(st.st_size, kernel.size);
        assert_int_equal(modes[i] == 0600, fcntl(kernel.fd, F_GET_SEALS) > 0);
        vm_kernel_done(&kernel);
    }
}

static void test_what_an_ordinary_user_owns_is_handed_out(void **state)
{
    (void)state;
    enum { SOMEBODY = 12345 };
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/image", home);
    write_image("image", "9.9.9-none");
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (geteuid() == 0) {
        assert_int_equal(fchown(fd, SOMEBODY, SOMEBODY), 0);
        assert_int_equal(seteuid(SOMEBODY), 0);
    }
    int r = vm_hand_out(&fd, path, true, NULL);
    assert_int_equal(seteuid(getuid()), 0);
    assert_int_equal(r, 0);
    assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE);
}

static void test_no_kernel_is_refused(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/image", home);
    static const char *const versions[] = {"", "../up", "..", "a/b"};
    struct vm_kernel kernel;
    for (size_t i = 0; i < SB_ARRAY_LEN(versions); i++) {
        write_image("image", versions[i]);
        assert_int_equal(vm_kernel_open(path, &kernel, NULL), SB_EFAIL);
    }
    char junk[8192];
    memset(junk, 'x', sizeof(junk));
    write_at("image", junk, sizeof(junk));
    assert_int_equal(vm_kernel_open(path, &kernel, NULL), SB_EFAIL);
    memcpy(junk + 0x202, "HdrS\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 14); /* points outside */
    write_at("image", junk, sizeof(junk));
    assert_int_equal(vm_kernel_open(path, &kernel, NULL), SB_EFAIL);
    write_at("image", "HdrS", 4);
    assert_int_equal(vm_kernel_open(path, &kernel, NULL), SB_EFAIL);
    assert_int_equal(vm_kernel_open(home, &kernel, NULL), SB_EFAIL);
    assert_int_equal(vm_kernel_open("/nowhere/image", &kernel, NULL), -ENOENT);
}

static void test_newest_of_ours_is_taken(void **state)
{
    (void)state;
    assert_int_equal(sb_mkdir_p(AT_FDCWD, home, 0700), 0);
    SB_CLEANUP(free) char *dir = sb_xasprintf("%s/state/vm", home);
    assert_int_equal(sb_mkdir_p(AT_FDCWD, dir, 0700), 0);
    write_image("state/vm/kernel-9.9.2-x", "9.9.2-x");
    write_image("state/vm/kernel-9.9.10-x", "9.9.10-x");
    write_at("state/vm/kernel-build.log", "log", 3);
    struct vm_kernel kernel;
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    assert_string_equal(kernel.version, "9.9.10-x");
    assert_int_equal(kernel.source, VM_KERNEL_BUILT);
    vm_kernel_done(&kernel);
    /* One that is broken is passed over; one that was named is not. */
    write_at("state/vm/kernel-9.9.10-x", "junk", 4);
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    assert_string_equal(kernel.version, "9.9.2-x");
    vm_kernel_done(&kernel);
    SB_CLEANUP(free) char *broken = sb_xasprintf("%s/kernel-9.9.10-x", dir);
    setenv("SBX_VM_KERNEL", broken, 1);
    assert_int_equal(vm_kernel_find(&kernel, NULL), SB_EFAIL);
    setenv("SBX_VM_KERNEL", "relative", 1);
    assert_int_equal(vm_kernel_find(&kernel, NULL), SB_EUSAGE);
    unsetenv("SBX_VM_KERNEL");
    assert_int_equal(sb_remove_tree(AT_FDCWD, dir), 0);
}

static void test_initramfs_is_kept(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *image = sb_xasprintf("%s/image", home);
    SB_CLEANUP(free) char *program = sb_xasprintf("%s/program", home);
    write_image("image", "9.9.9-none");
    write_at("program", "first", 5);
    const struct initramfs_program programs[] = {{"init", program}};
    struct vm_kernel kernel;
    assert_int_equal(vm_kernel_open(image, &kernel, NULL), 0);
    int fd[4];
    char *path[4];
    for (size_t i = 0; i < 4; i++) {
        if (i == 2) {
            write_at("program", "second one", 10);
        }
        const char *kind = i == 3 ? "probe" : "guest";
        assert_int_equal(initramfs_take(kind, &kernel, programs, 1, &fd[i], &path[i], NULL), 0);
    }
    assert_string_equal(path[0], path[1]);
    assert_string_not_equal(path[0], path[2]);
    assert_int_equal(access(path[0], F_OK), -1); /* stale */
    assert_int_equal(access(path[2], F_OK), 0);
    assert_int_equal(access(path[3], F_OK), 0);
    for (size_t i = 0; i < 4; i++) {
        struct stat st;
        assert_int_equal(fstat(fd[i], &st), 0);
        assert_int_equal(st.st_mode & 0777, 0644);
        SB_CLEANUP(buf) struct sb_buf content;
        sb_buf_init(&content, 1 << 16);
        assert_int_equal(sb_read_fd(fd[i], &content), 0);
        const char *text = i < 2 ? "first" : "second one";
        assert_non_null(memmem(content.data, content.len, text, strlen(text)));
        close(fd[i]);
        free(path[i]);
    }
    vm_kernel_done(&kernel);
}

/* ---- against the system's own tools ---- */

/* skip() does not return, so a test asks for what it needs while it owns nothing. */
static void need_tool(const char *name)
{
    static const char *const places[] = {"/usr/bin", "/usr/sbin", "/bin", "/sbin"};
    bool found = false;
    for (size_t i = 0; !found && i < SB_ARRAY_LEN(places); i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", places[i], name);
        found = access(path, X_OK) == 0;
    }
    if (!found) {
        skip();
    }
}

static void need_system_kernel(void)
{
    struct vm_kernel kernel = {.fd = -1};
    bool found = vm_kernel_find(&kernel, NULL) == 0 && kernel.modules;
    vm_kernel_done(&kernel);
    if (!found) {
        skip();
    }
}

/* Standard output of a program that must succeed. */
static void run_tool(const char *input, char *const *argv, struct sb_buf *output)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int in = open(input, O_RDONLY);
        dup2(in, STDIN_FILENO);
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fds[1]);
    sb_buf_init(output, 1 << 20);
    int r = sb_read_fd(fds[0], output);
    close(fds[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_int_equal(r, 0);
    assert_int_equal(status, 0);
}

/* What cpio lists, and what it takes out, is what was put in. */
static void test_cpio_reads_it(void **state)
{
    (void)state;
    need_tool("cpio");
    need_system_kernel();
    SB_CLEANUP(free) char *program = sb_xasprintf("%s/program", home);
    write_at("program", "first", 5);
    const struct initramfs_program programs[] = {{"init", program}, {"other", program}};
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    SB_CLEANUP(fd) int fd = -1;
    SB_CLEANUP(free) char *path = NULL;
    assert_int_equal(initramfs_take("read", &kernel, programs, 2, &fd, &path, NULL), 0);
    char *const list[] = {(char[]){"cpio"}, (char[]){"-t"}, (char[]){"--quiet"}, NULL};
    char *const load[] = {(char[]){"cpio"},    (char[]){"-i"},        (char[]){"--to-stdout"},
                          (char[]){"--quiet"}, (char[]){"modules.*"}, NULL};
    SB_CLEANUP(buf) struct sb_buf names = {0};
    SB_CLEANUP(buf) struct sb_buf order = {0};
    run_tool(path, list, &names);
    run_tool(path, load, &order);
    assert_non_null(strstr(names.data, "dev\nproc\nsys\nrun\nmnt\nmodules\ninit\nother\n"));
    assert_int_equal(strncmp(order.data, "/modules/virtio", 15), 0);
    assert_non_null(strstr(order.data, "/modules/virtiofs.ko\n"));
    assert_non_null(strstr(order.data, "/modules/overlay.ko\n"));
    /* Each module of the list is a file of the archive. */
    char *rest = order.data;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        SB_CLEANUP(free) char *name = sb_xasprintf("%s\n", line + 1);
        assert_non_null(strstr(names.data, name));
    }
}

/* An initramfs with this file as its module virtio_mmio, and all else built in: what is in it. */
static void read_module_of(struct vm_kernel *kernel, const char *file, struct sb_buf *ret)
{
    static const char others[] = "a/virtio_console.ko\na/virtiofs.ko\na/virtio_blk.ko\n"
                                 "a/overlay.ko\na/virtio_net.ko\na/ext4.ko\n";
    SB_CLEANUP(free) char *list = sb_xasprintf("%s:\n", file);
    SB_CLEANUP(free) char *program = sb_xasprintf("%s/program", home);
    write_at("program", "first", 5);
    write_at("modules.dep", list, strlen(list));
    write_at("modules.builtin", others, strlen(others));
    const struct initramfs_program programs[] = {{"init", program}};
    SB_CLEANUP(free) char *kind = sb_xasprintf("packed-%s", file);
    SB_CLEANUP(fd) int fd = -1;
    SB_CLEANUP(free) char *path = NULL;
    assert_int_equal(initramfs_take(kind, kernel, programs, 1, &fd, &path, NULL), 0);
    char *const load[] = {(char[]){"cpio"},
                          (char[]){"-i"},
                          (char[]){"--quiet"},
                          (char[]){"--to-stdout"},
                          (char[]){"modules/virtio_mmio.ko"},
                          NULL};
    run_tool(path, load, ret);
}

/* The system's kernel is packed; what is in it is taken, made once, and is the same kernel. */
static void test_image_is_unpacked(void **state)
{
    (void)state;
    need_system_kernel();
    need_tool("xz");
    need_tool("lz4");
    need_tool("zstd");
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    SB_CLEANUP(vm_kernel) struct vm_kernel again = {.fd = -1};
    SB_CLEANUP(vm_kernel) struct vm_kernel found = {.fd = -1};
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    assert_int_equal(vm_kernel_find(&again, NULL), 0);
    vm_image_unpack(&kernel);
    assert_int_not_equal(strncmp(kernel.image, "/boot/", 6), 0);
    struct stat first, second;
    assert_int_equal(fstat(kernel.fd, &first), 0);
    assert_int_equal(first.st_size, kernel.size);
    assert_int_equal(first.st_mode & 0777, 0644);
    assert_int_equal(vm_kernel_open(kernel.image, &found, NULL), 0);
    assert_string_equal(found.version, again.version);
    vm_image_unpack(&again);
    assert_int_equal(fstat(again.fd, &second), 0);
    assert_true(first.st_ino == second.st_ino);
    /* It is no bzImage any more. */
    vm_image_unpack(&again);
    assert_string_equal(again.image, kernel.image);
}

/* One in which there is nothing to boot is left as it is. */
static void test_image_without_payload(void **state)
{
    (void)state;
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/image", home);
    static const uint32_t lengths[] = {0, 4, 5, 100, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < SB_ARRAY_LEN(lengths); i++) {
        char image[8192] = "";
        memcpy(image + 0x202, "HdrS\x0f\x02", 6);
        image[0x20f] = 0x10;
        memcpy(image + 0x24c, &lengths[i], sizeof(lengths[i]));
        memcpy(image + 0x1200, "9.9.9-none (builder)", 20);
        memcpy(image + 2560, "\x1f\x8b", 2);
        write_at("image", image, sizeof(image));
        SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
        assert_int_equal(vm_kernel_open(path, &kernel, NULL), 0);
        vm_image_unpack(&kernel);
        assert_string_equal(kernel.image, path);
    }
}

/* Fedora packs modules by xz, Ubuntu by zstd. */
static void test_packed_modules(void **state)
{
    (void)state;
    static const char *const packers[][2] = {{"xz", "xz"}, {"zstd", "zst"}, {"gzip", "gz"}};
    need_system_kernel();
    need_tool("xz");
    need_tool("zstd");
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    SB_CLEANUP(free)
    char *file = sb_xasprintf("%s/kernel/drivers/virtio/virtio_mmio.ko", kernel.modules);
    SB_CLEANUP(buf) struct sb_buf plain;
    sb_buf_init(&plain, 1 << 20);
    assert_int_equal(sb_read_file(AT_FDCWD, file, &plain, NULL), 0);
    free(kernel.modules);
    kernel.modules = sb_xstrdup(home);
    write_at("virtio-mmio.ko", plain.data, plain.len);
    SB_CLEANUP(buf) struct sb_buf expected = {0};
    read_module_of(&kernel, "virtio-mmio.ko", &expected);
    /* But for its signature. */
    assert_true(expected.len > plain.len / 2 && expected.len < plain.len);
    assert_memory_equal(expected.data, plain.data, expected.len);
    for (size_t i = 0; i < SB_ARRAY_LEN(packers); i++) {
        SB_CLEANUP(free) char *program = sb_xstrdup(packers[i][0]);
        SB_CLEANUP(free) char *name = sb_xasprintf("virtio-mmio.ko.%s", packers[i][1]);
        char *const pack[] = {program, (char[]){"-c"}, NULL};
        SB_CLEANUP(buf) struct sb_buf packed = {0};
        SB_CLEANUP(buf) struct sb_buf found = {0};
        run_tool(file, pack, &packed);
        assert_true(packed.len < plain.len);
        write_at(name, packed.data, packed.len);
        read_module_of(&kernel, name, &found);
        assert_int_equal(found.len, expected.len);
        assert_memory_equal(found.data, expected.data, found.len);
    }
    /* A broken one is no module. */
    static const unsigned char broken[64] = {0xfd, '7', 'z', 'X', 'Z', 0};
    struct sb_err *err = NULL;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 1 << 20);
    assert_true(unpack("broken.ko.xz", broken, sizeof(broken), &out, &err) < 0);
    assert_non_null(strstr(err->message, "cannot unpack 'broken.ko.xz'"));
    sb_err_free(err);
}

/* The same modules in an order that modprobe, too, would take. */
static void test_modprobe_agrees(void **state)
{
    (void)state;
    need_tool("modprobe");
    need_system_kernel();
    SB_CLEANUP(vm_kernel) struct vm_kernel kernel = {.fd = -1};
    assert_int_equal(vm_kernel_find(&kernel, NULL), 0);
    static const char *const names[] = {"virtiofs", "virtio_net", "virtio_rng", "virtio_console",
                                        "br_netfilter"};
    SB_CLEANUP(buf) struct sb_buf deps;
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/modules.dep", kernel.modules);
    sb_buf_init(&deps, 4 << 20);
    assert_int_equal(sb_read_file(AT_FDCWD, path, &deps, NULL), 0);
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        SB_CLEANUP(free) char *name = sb_xstrdup(names[i]);
        char *const argv[] = {(char[]){"modprobe"},
                              (char[]){"--show-depends"},
                              (char[]){"--set-version"},
                              kernel.version,
                              name,
                              NULL};
        SB_CLEANUP(buf) struct sb_buf shown = {0};
        run_tool("/dev/null", argv, &shown);
        SB_CLEANUP(module_list) struct module_list list = {0};
        assert_int_equal(modules_add(&list, deps.data, "", names[i], NULL), 0);
        size_t lines = 0;
        for (const char *c = shown.data; (c = strstr(c, "insmod ")); c++) {
            lines++;
        }
        assert_int_equal(list.count, lines);
        for (size_t j = 0; j < list.count; j++) {
            assert_non_null(strstr(shown.data, list.paths[j]));
        }
        SB_CLEANUP(free)
        char *last = module_name(list.paths[list.count - 1], strlen(list.paths[list.count - 1]));
        assert_string_equal(last, names[i]);
    }
}

/* ---- the counter ---- */

/* Two looks agree to a thousandth: a guest's kernel refines what it is told. */
static void test_counter_is_steady(void **state)
{
    (void)state;
    struct cpu_moment start = cpu_now();
    unsigned first = cpu_tsc_khz(&start), second = cpu_tsc_khz(&start);
    assert_true(first > 100000);
    assert_true(abs((int)(first - second)) <= (int)(first / 1000));
}

static int make_home(void **state)
{
    (void)state;
    /* modprobe is not where ordinary users look. */
    SB_CLEANUP(free) char *path = sb_xasprintf("%s:/usr/sbin:/sbin", getenv("PATH"));
    return setenv("PATH", path, 1) == 0 && mkdtemp(home) ? setenv("SBX_HOME", home, 1) : -1;
}

static int remove_home(void **state)
{
    (void)state;
    return sb_remove_tree(AT_FDCWD, home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpio_form),
        cmocka_unit_test(test_cpio_is_bounded),
        cmocka_unit_test(test_modules_order),
        cmocka_unit_test(test_modules_missing),
        cmocka_unit_test(test_modules_bounded),
        cmocka_unit_test(test_kernel_is_read),
        cmocka_unit_test(test_what_is_handed_out),
        cmocka_unit_test(test_what_an_ordinary_user_owns_is_handed_out),
        cmocka_unit_test(test_no_kernel_is_refused),
        cmocka_unit_test(test_newest_of_ours_is_taken),
        cmocka_unit_test(test_initramfs_is_kept),
        cmocka_unit_test(test_cpio_reads_it),
        cmocka_unit_test(test_image_is_unpacked),
        cmocka_unit_test(test_image_without_payload),
        cmocka_unit_test(test_packed_modules),
        cmocka_unit_test(test_modprobe_agrees),
        cmocka_unit_test(test_counter_is_steady),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
