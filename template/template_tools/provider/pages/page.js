// Adds what the development page has only with JavaScript: buttons that copy, and fresh news.
"use strict";

for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.after(button);
}

const news = document.getElementById("introspections");

async function refresh() {
  if (document.hidden) {
    return;
  }
  try {
    const response = await fetch("/dev/introspections");
    const text = await response.text();
    if (response.ok && text !== refresh.last) {
      // The provider has escaped it.
      news.innerHTML = text;
      refresh.last = text;
    }
  } catch {
    news.textContent = "The provider has stopped: start it with `uv run poe dev`.";
    refresh.last = "";
  }
}

setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
