// Shows the API's description, with the identity provider's login if its endpoints are known.
"use strict";

const settings = JSON.parse(document.getElementById("settings").textContent);
const redirectUrl = new URL("docs/oauth2-redirect", location.href).href;

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

// The development page opens this one with a login_hint (OpenID Connect Core, section 4): sign in at
// once, without the dialog. The provider sends the browser to oauth2-redirect.js, and that back here.
async function leaveToSignIn(hint, scopes) {
  const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));
  const [state, codeVerifier] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(codeVerifier));
  sessionStorage.setItem("signIn", JSON.stringify({ state, codeVerifier }));
  const query = new URLSearchParams({
    response_type: "code",
    client_id: settings.clientId,
    redirect_uri: redirectUrl,
    scope: scopes.join(" "),
    state,
    code_challenge: encoded(new Uint8Array(digest)),
    code_challenge_method: "S256",
    login_hint: hint,
  });
  location.replace(`${settings.authorizationUrl}?${query}`);
}

function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (it) => ({ "+": "-", "/": "_" })[it] ?? "");
}

function finishSignIn(ui, { code, codeVerifier }) {
  const definitions = ui.authSelectors.definitionsToAuthorize();
  const schema = definitions.find((it) => it.has("SSO")).get("SSO");
  const { clientId } = settings;
  const auth = { schema, name: "SSO", clientId, clientSecret: "", code, codeVerifier };
  ui.authActions.authorizeAccessCodeWithFormParams({ auth, redirectUrl });
}

async function show() {
  const signIn = JSON.parse(sessionStorage.getItem("signIn"));
  sessionStorage.removeItem("signIn");
  const response = await fetch("openapi.json");
  const description = await response.json();
  const scopes = describeLogin(description);
  const hint = new URLSearchParams(location.search).get("login_hint");
  if (settings.isDevelopment && settings.authorizationUrl && hint) {
    await leaveToSignIn(hint, scopes);
    return;
  }
  const ui = SwaggerUIBundle({
    spec: description,
    dom_id: "#swagger-ui",
    deepLinking: true,
    // Elsewhere a token is not left in the browser.
    persistAuthorization: settings.isDevelopment,
    oauth2RedirectUrl: redirectUrl,
    onComplete: () => signIn?.code && finishSignIn(ui, signIn),
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
