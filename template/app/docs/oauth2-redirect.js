// Hands the provider's answer to the page that has opened this window (RFC 6749 §4.1.2).
"use strict";

const answer = new URLSearchParams(location.search);
const login = window.opener?.swaggerUIRedirectOauth2;

function end() {
  if (!login) {
    document.getElementById("message").textContent =
      "The page that started the sign-in is closed. Close this window and try again.";
    return;
  }
  const code = answer.get("code");
  let problem = null;
  if (answer.get("state") !== login.state) {
    problem = "The answer belongs to another request; sign in again.";
  } else if (!code) {
    problem = answer.get("error_description") || answer.get("error") || "The provider sent no code.";
  }
  if (problem) {
    login.errCb({ authId: login.auth.name, source: "auth", level: "error", message: problem });
  } else {
    delete login.auth.state;
    login.auth.code = code;
    login.callback({ auth: login.auth, redirectUrl: login.redirectUrl });
  }
  window.close();
}

end();
