/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/token_keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/msg.h"
#include "secret/secret.h"

int token_keeper_renew(struct token_keeper *keeper, struct sb_err **err)
{
    int ends[2];
    if (keeper->loop) {
        sb_loop_unwatch(keeper->loop, keeper->watch);
        keeper->watch = 0;
    }
    if (keeper->near >= 0) {
        close(sb_steal_fd(&keeper->near));
    }
    if (keeper->far >= 0) {
        close(sb_steal_fd(&keeper->far));
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
        return sb_fail_errno(err, errno, "make the token keeper's socket");
    }
    keeper->near = ends[0];
    keeper->far = ends[1];
    return keeper->loop ? token_keeper_watch(keeper, keeper->loop, err) : 0;
}

/* Does the sandbox's plan sign in to this service? */
static bool is_planned(const json_t *config, const char *service, const char *kit)
{
    const json_t *credentials = json_object_get(json_object_get(config, "plan"), "credentials");
    size_t i;
    const json_t *credential;
    json_array_foreach(credentials, i, credential)
    {
        const char *its_service = sb_json_str(credential, "service");
        const char *its_kit = sb_json_str(credential, "kit");
        if (its_service && its_kit && strcmp(its_service, service) == 0 &&
            strcmp(its_kit, kit) == 0) {
            return json_is_object(json_object_get(credential, "oauth"));
        }
    }
    return false;
}

static int store(const struct token_keeper *keeper, const json_t *message, struct sb_err **err)
{
    const char *op = sb_json_str(message, "op"), *service = sb_json_str(message, "service");
    const char *kit = sb_json_str(message, "kit");
    if (!op || strcmp(op, "tokens") != 0 || !service || !kit ||
        !is_planned(*keeper->config, service, kit)) {
        return sb_fail(err, SB_EPROTO, "the proxy sent tokens that nobody asked for");
    }
    return secret_set_tokens(keeper->sandbox, service, message, err);
}

static void on_message(void *arg, uint32_t events)
{
    (void)events;
    struct token_keeper *keeper = arg;
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = sb_msg_recv(keeper->near, &msg, NULL);
    if (r == -EAGAIN) {
        return;
    }
    if (r <= 0) {
        /* The proxy is gone or talks nonsense; its end is noticed elsewhere. */
        sb_loop_unwatch(keeper->loop, keeper->watch);
        keeper->watch = 0;
        return;
    }
    if (store(keeper, msg.json, &err) < 0) {
        sb_err_print(err);
        return;
    }
    keeper->stored(keeper->arg);
}

int token_keeper_watch(struct token_keeper *keeper, struct sb_loop *loop, struct sb_err **err)
{
    keeper->loop = loop;
    keeper->watch = sb_loop_watch(loop, keeper->near, EPOLLIN, on_message, keeper);
    return keeper->watch ? 0 : sb_fail(err, SB_EFAIL, "cannot watch the token keeper's socket");
}
