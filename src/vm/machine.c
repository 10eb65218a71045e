/* SPDX-License-Identifier: Apache-2.0
 * QEMU's `microvm` machine with virtio devices and nothing else.  Everything that it uses comes as
 * a descriptor; the paths it opens are its own firmware and, through /proc/self/fd, kernel and
 * initramfs. */
#include "vm/machine.h"

#include <stdarg.h>
#include <stdlib.h>

/* Translated code, which QEMU would let grow to a gigabyte.  A guest's working set is below this.
 */
enum { ARGS_MAX = 96, QUEUE_SIZE = 1024, TRANSLATED_MB = 64 };
enum { RANDOM_BYTES = 65536, RANDOM_PERIOD_MS = 1000 };

struct args {
    char *words[ARGS_MAX];
    size_t count;
};

static void add(struct args *args, const char *option, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(struct args *args, const char *option, const char *format, ...)
{
    args->words[args->count++] = sb_xstrdup(option);
    if (format) {
        va_list list;
        va_start(list, format);
        char value[1024];
        vsnprintf(value, sizeof(value), format, list);
        va_end(list);
        args->words[args->count++] = sb_xstrdup(value);
    }
}

static void add_base(struct args *args, const struct machine *m)
{
    bool kvm = m->accelerator[0] == 'k';
    add(args, "-nodefaults", NULL);
    add(args, "-no-user-config", NULL);
    add(args, "-display", "none");
    add(args, "-name", "sbx");
    add(args, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    /* Without the clock chip the kernel waits for it, for one second at a time; without ACPI it has
     * no timer but the chips'. */
    add(args, "-machine",
        "microvm,memory-backend=mem,isa-serial=off,rtc=on,pit=%s,pic=%s,acpi=%s,auto-kernel-"
        "cmdline=%s",
        m->acpi ? "off" : "on", m->acpi ? "off" : "on", m->acpi ? "on" : "off",
        m->acpi ? "off" : "on");
    if (kvm) {
        add(args, "-accel", "kvm");
    } else {
        add(args, "-accel", "tcg,tb-size=%d", TRANSLATED_MB);
    }
    /* QEMU asks for an MSR of the host's that not every hypervisor gives its guests.  What it
     * emulates copies word by word where the guest does not think it quick byte by byte. */
    add(args, "-cpu", kvm ? "host,-arch-capabilities" : "max,-erms,-fsrm");
    add(args, "-smp", "%u", m->cpus);
    add(args, "-m", "%u", m->memory_mb);
    /* Shared, since virtiofsd reads and writes the guest's buffers. */
    add(args, "-object", "memory-backend-memfd,id=mem,size=%uM,share=on", m->memory_mb);
    add(args, "-global", "virtio-mmio.force-legacy=false");
}

static void add_kernel(struct args *args, const struct machine *m)
{
    add(args, "-kernel", "/proc/self/fd/%d", m->kernel_fd);
    add(args, "-initrd", "/proc/self/fd/%d", m->initrd_fd);
    /* Without a known TSC frequency one emulated boot in ten hangs calibrating it.  Debian's kernel
     * tries out its ciphers at each start, for more than half of the instructions of its boot; it
     * clears each page that it takes for itself; and for 4 GiB and more it takes 64 MiB to copy
     * through for devices that cannot reach all memory, which virtio's can.  The other processors
     * are started by the guest (cpus.c).  The emulator's processors have one TSC, and are of a
     * maker whose kernel code does not believe that of several: it would count timer interrupts
     * instead, of which a busy host loses every other, and have no finer timers. */
    add(args, "-append",
        "console=hvc0 quiet loglevel=4 reboot=t panic=-1 oops=panic cryptomgr.notests "
        "init_on_alloc=0 swiotlb=noforce rcupdate.rcu_expedited=1 maxcpus=1 "
        "noreplace-smp " MACHINE_MARK " %stsc_early_khz=%u",
        m->accelerator[0] == 'k' ? "" : "tsc=reliable ", m->tsc_khz);
}

static void add_devices(struct args *args, const struct machine *m)
{
    add(args, "-chardev", "socket,id=qmp,fd=%d", m->qmp_fd);
    add(args, "-mon", "chardev=qmp,mode=control");
    add(args, "-device", "virtio-serial-device,max_ports=2");
    add(args, "-chardev", "socket,id=console,fd=%d", m->console_fd);
    add(args, "-device", "virtconsole,chardev=console");
    add(args, "-chardev", "socket,id=link,fd=%d", m->link_fd);
    add(args, "-device", "virtserialport,chardev=link,name=" MACHINE_PORT);
    add(args, "-object", "rng-builtin,id=rng");
    /* QEMU takes memory for what the guest asks for at once: without a bound up to 4 GiB. */
    add(args, "-device", "virtio-rng-device,rng=rng,max-bytes=%d,period=%d", RANDOM_BYTES,
        RANDOM_PERIOD_MS);
    add(args, "-device", "virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on");
    add(args, "-chardev", "socket,id=share,fd=%d", m->share_fd);
    add(args, "-device",
        "vhost-user-fs-device,chardev=share,tag=" MACHINE_SHARE_TAG ",queue-size=%d", QUEUE_SIZE);
    add(args, "-add-fd", "fd=%d,set=1", m->disk_fd);
    add(args, "-blockdev",
        "driver=raw,node-name=disk,discard=unmap,detect-zeroes=unmap,file.driver=file,"
        "file.filename=/dev/fdset/1,file.locking=off,file.discard=unmap");
    add(args, "-device", "virtio-blk-device,drive=disk");
    add(args, "-netdev",
        "user,id=net,ipv4=on,ipv6=on,net=" MACHINE_NET_V4 ",host=" MACHINE_HOST_V4
        ",dhcpstart=" MACHINE_GUEST_V4 ",ipv6-prefix=" MACHINE_NET_V6
        ",ipv6-prefixlen=%d,ipv6-host=" MACHINE_HOST_V6,
        MACHINE_PREFIX_V6);
    add(args, "-device", "virtio-net-device,netdev=net");
}

char **machine_argv(const struct machine *machine)
{
    struct args args = {0};
    add(&args, "qemu-system-x86_64", NULL);
    add_base(&args, machine);
    add_kernel(&args, machine);
    add_devices(&args, machine);
    char **argv = sb_xcalloc(args.count + 1, sizeof(*argv));
    for (size_t i = 0; i < args.count; i++) {
        argv[i] = args.words[i];
    }
    return argv;
}

void machine_free_argv(char **argv)
{
    for (char **word = argv; *word; word++) {
        free(*word);
    }
    free(argv);
}
