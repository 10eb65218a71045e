/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's root file system: detached mounts of host trees, put together inside.
 *
 * In root mode the supervisor clones the trees, because only it may show them with other ids, while
 * the sandbox's first process makes the network; an ordinary user's sandbox clones them itself, at
 * the start of its own mount namespace. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox/idmap.h"

enum { ROOTFS_WORKSPACES_MAX = 16 };

/* Device and inode are those of the directory when the sandbox was made, and so is the owner, who
 * is agent inside whatever the sandbox does to it. */
struct rootfs_workspace {
    char *path; /* the same on the host and inside */
    bool read_only;
    dev_t device;
    ino_t inode;
    uid_t uid;
    gid_t gid;
    dev_t device_now; /* known once it is opened */
    int tree;
};

/* What a root is made of.  Trees are detached mounts (open_tree(2)), -1 until cloned. */
struct rootfs {
    struct idmap map;
    char *template_path;
    char *state_path; /* .../sandboxes/NAME/root, holds the writable layers; NULL: a disk does */
    int template_tree, state_tree, usr_tree, dpkg_tree;
    struct rootfs_workspace workspaces[ROOTFS_WORKSPACES_MAX]; /* an outer before its inner ones */
    size_t nworkspaces;
    const json_t *volumes; /* of kits, borrowed (init/volumes.h) */
    int provider; /* in the sandbox's first process: a socket that brings the trees, or -1 */
    uint64_t memory_bytes; /* what the sandbox may use: /dev/shm and /run are parts of it; 0: any */
};

void rootfs_init(struct rootfs *rootfs);
/* Closes and frees all but the map. */
void rootfs_done(struct rootfs *rootfs);
/* Clones every tree, for an ordinary user's sandbox from inside it (`userns` -1). */
int rootfs_clone_trees(struct rootfs *rootfs, int userns, struct sb_err **err);
/* Root mode, in the supervisor: clones them with the ids of `userns`, the sandbox's, and sends them
 * to the `provider` of the process that receives them, first the layers, then the workspaces. */
int rootfs_provide_trees(struct rootfs *rootfs, int userns, int sock, struct sb_err **err);
/* There: nothing to do for an ordinary user's. */
int rootfs_receive_layers(struct rootfs *rootfs, struct sb_err **err);
int rootfs_receive_workspaces(struct rootfs *rootfs, struct sb_err **err);
/* In the sandbox's new mount namespace, with its ids: builds the root, moves into it, and leaves
 * nothing of the host's tree behind.  `hostname` is written to /etc/hostname and /etc/hosts. */
int rootfs_enter(struct rootfs *rootfs, const char *hostname, struct sb_err **err);
/* For other roots of the same trees: mounts a tree at `path` below `dir` (at `dir` itself when it
 * is empty) and closes it; makes the mount at `root` the root, and drops the old one.  0 or -errno.
 */
int rootfs_attach(int *tree, int dir, const char *path);
int rootfs_move_into(const char *root);
