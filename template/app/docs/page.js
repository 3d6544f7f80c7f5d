// Shows the API's description, with the identity provider's login if its endpoints are known.
"use strict";

const settings = JSON.parse(document.getElementById("settings").textContent);

function scopesOf(description) {
  const scopes = new Set(settings.scopes);
  for (const path of Object.values(description.paths)) {
    for (const operation of Object.values(path)) {
      for (const scheme of operation.security ?? []) {
        Object.values(scheme).flat().forEach((scope) => scopes.add(scope));
      }
    }
  }
  return Object.fromEntries([...scopes].map((scope) => [scope, ""]));
}

function describeLogin(description) {
  const schemes = description.components?.securitySchemes;
  if (!schemes?.SSO) {
    return [];
  }
  const scopes = scopesOf(description);
  if (settings.authorizationUrl && settings.tokenUrl) {
    const { authorizationUrl, tokenUrl } = settings;
    const flows = { authorizationCode: { authorizationUrl, tokenUrl, scopes } };
    schemes.SSO = { type: "oauth2", description: schemes.SSO.description, flows };
  } else {
    // It would be offered, and not work.
    delete schemes.SSO;
  }
  // Elsewhere a provider may refuse all of them for one that the user may not have.
  return settings.isDevelopment ? Object.keys(scopes) : settings.scopes;
}

async function show() {
  const response = await fetch("openapi.json");
  const description = await response.json();
  const scopes = describeLogin(description);
  const ui = SwaggerUIBundle({
    spec: description,
    dom_id: "#swagger-ui",
    deepLinking: true,
    // Elsewhere a token is not left in the browser.
    persistAuthorization: settings.isDevelopment,
    oauth2RedirectUrl: new URL("docs/oauth2-redirect", location.href).href,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
  });
  ui.initOAuth({
    clientId: settings.clientId,
    scopes,
    usePkceWithAuthorizationCodeGrant: true,
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
show();
