// Hands the provider's answer to the page that has asked for it (RFC 6749 §4.1.2): the one that has
// opened this window, or the one that was in this window before.
"use strict";

const answer = new URLSearchParams(location.search);
const before = JSON.parse(sessionStorage.getItem("signIn"));
const login = before ?? window.opener?.swaggerUIRedirectOauth2;

function problemOf(code) {
  if (!login) {
    return "The page that started the sign-in is closed. Close this window and try again.";
  }
  if (answer.get("state") !== login.state) {
    return "The answer belongs to another request; sign in again.";
  }
  return code ? null : answer.get("error_description") || answer.get("error") || "The provider sent no code.";
}

function end() {
  const code = answer.get("code");
  const problem = problemOf(code);
  if (before && !problem) {
    sessionStorage.setItem("signIn", JSON.stringify({ ...before, code }));
    location.replace("../docs");
  } else if (before || !login) {
    sessionStorage.removeItem("signIn");
    document.getElementById("message").textContent = problem;
  } else {
    if (problem) {
      login.errCb({ authId: login.auth.name, source: "auth", level: "error", message: problem });
    } else {
      delete login.auth.state;
      login.auth.code = code;
      login.callback({ auth: login.auth, redirectUrl: login.redirectUrl });
    }
    window.close();
  }
}

end();
