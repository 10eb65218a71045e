/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/services.h"

#include <string.h>

const struct secret_service secret_services[] = {
    {"anthropic",
     {"ANTHROPIC_API_KEY"},
     {"api.anthropic.com", "console.anthropic.com", "claude.ai", "mcp-proxy.anthropic.com"}},
    {"aws", {"AWS_ACCESS_KEY_ID"}, {NULL}},
    {"cursor",
     {"CURSOR_API_KEY"},
     {"api2.cursor.sh", "api3.cursor.sh", "repo42.cursor.sh", "cursor.com"}},
    {"droid", {"FACTORY_API_KEY"}, {"api.factory.ai", "app.factory.ai", "relay.factory.ai"}},
    {"github",
     {"GH_TOKEN", "GITHUB_TOKEN"},
     {"api.github.com", "github.com", "raw.githubusercontent.com", "gist.github.com",
      "copilot.github.com", "api.githubcopilot.com"}},
    {"google",
     {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
     {"generativelanguage.googleapis.com", "oauth2.googleapis.com", "aiplatform.googleapis.com",
      "vertexai.googleapis.com"}},
    {"groq", {"GROQ_API_KEY"}, {"api.groq.com"}},
    {"mistral", {"MISTRAL_API_KEY"}, {"api.mistral.ai"}},
    {"nebius", {"NEBIUS_API_KEY"}, {"api.studio.nebius.com", "api.tokenfactory.nebius.com"}},
    {"openai",
     {"OPENAI_API_KEY"},
     {"api.openai.com", "openai.com", "chatgpt.com", "www.chatgpt.com"}},
    {"openrouter", {"OPENROUTER_API_KEY"}, {"openrouter.ai"}},
    {"xai", {"XAI_API_KEY"}, {"api.x.ai"}},
    {NULL, {NULL}, {NULL}},
};

const struct secret_service *secret_service_find(const char *id)
{
    for (const struct secret_service *service = secret_services; service->id; service++) {
        if (strcmp(service->id, id) == 0) {
            return service;
        }
    }
    return NULL;
}
