/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/services.h"

#include <string.h>

#define BEARER(host)                                                                               \
    {                                                                                              \
        host, NULL, NULL, "Authorization", "Bearer %s"                                             \
    }
#define BASIC(host, user)                                                                          \
    {                                                                                              \
        host, NULL, user, NULL, NULL                                                               \
    }
#define KEY(host, header)                                                                          \
    {                                                                                              \
        host, NULL, NULL, header, "%s"                                                             \
    }

/* clang-format off */
const struct secret_service secret_services[] = {
    {"anthropic", {"ANTHROPIC_API_KEY"},
     {KEY("api.anthropic.com", "x-api-key")},
     {KEY(NULL, "x-api-key")}},
    {"aws", {"AWS_ACCESS_KEY_ID"}, {{0}}, {{0}}}, /* requests are signed: nothing to inject */
    {"azure-devops", {"AZURE_DEVOPS_EXT_PAT"},
     {BASIC("dev.azure.com", ""), BASIC("*.visualstudio.com", "")},
     {BASIC(NULL, "")}},
    {"bitbucket", {"BITBUCKET_TOKEN"},
     {BEARER("api.bitbucket.org"), BASIC("bitbucket.org", "x-token-auth")},
     {{NULL, "/rest/**", NULL, "Authorization", "Bearer %s"}, BASIC(NULL, "x-token-auth")}},
    {"cursor", {"CURSOR_API_KEY"},
     {BEARER("api2.cursor.sh"), BEARER("api3.cursor.sh"), BEARER("repo42.cursor.sh")},
     {BEARER(NULL)}},
    {"droid", {"FACTORY_API_KEY"},
     {BEARER("api.factory.ai"), BEARER("app.factory.ai"), BEARER("relay.factory.ai")},
     {BEARER(NULL)}},
    {"git", {NULL}, {{0}}, {BASIC(NULL, "x-access-token")}}, /* any forge, git alone */
    {"gitea", {"GITEA_TOKEN"}, /* and Forgejo */
     {{"codeberg.org", "/api/**", NULL, "Authorization", "token %s"}, BASIC("codeberg.org", "git")},
     {{NULL, "/api/**", NULL, "Authorization", "token %s"}, BASIC(NULL, "git")}},
    {"github", {"GH_TOKEN", "GITHUB_TOKEN"},
     {BEARER("api.github.com"), BASIC("github.com", "x-access-token"), BEARER("uploads.github.com"),
      BASIC("gist.github.com", "x-access-token"), BEARER("raw.githubusercontent.com"),
      BEARER("api.githubcopilot.com")},
     {{NULL, "/api/**", NULL, "Authorization", "Bearer %s"}, BASIC(NULL, "x-access-token")}},
    {"gitlab", {"GITLAB_TOKEN"},
     {{"gitlab.com", "/api/**", NULL, "PRIVATE-TOKEN", "%s"}, BASIC("gitlab.com", "oauth2")},
     {{NULL, "/api/**", NULL, "PRIVATE-TOKEN", "%s"}, BASIC(NULL, "oauth2")}},
    {"google", {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
     {KEY("generativelanguage.googleapis.com", "x-goog-api-key"),
      KEY("aiplatform.googleapis.com", "x-goog-api-key")},
     {KEY(NULL, "x-goog-api-key")}},
    {"groq", {"GROQ_API_KEY"}, {BEARER("api.groq.com")}, {BEARER(NULL)}},
    {"mistral", {"MISTRAL_API_KEY"}, {BEARER("api.mistral.ai")}, {BEARER(NULL)}},
    {"nebius", {"NEBIUS_API_KEY"},
     {BEARER("api.studio.nebius.com"), BEARER("api.tokenfactory.nebius.com")},
     {BEARER(NULL)}},
    {"openai", {"OPENAI_API_KEY"}, {BEARER("api.openai.com")}, {BEARER(NULL)}},
    {"openrouter", {"OPENROUTER_API_KEY"}, {BEARER("openrouter.ai")}, {BEARER(NULL)}},
    {"xai", {"XAI_API_KEY"}, {BEARER("api.x.ai")}, {BEARER(NULL)}},
    {NULL, {NULL}, {{0}}, {{0}}},
};
/* clang-format on */

const struct secret_service *secret_service_find(const char *id)
{
    for (const struct secret_service *service = secret_services; service->id; service++) {
        if (strcmp(service->id, id) == 0) {
            return service;
        }
    }
    return NULL;
}
