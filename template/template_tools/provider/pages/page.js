// Adds what the development page has only with JavaScript: buttons that copy, and fresh news.
"use strict";

// In the language of the project.
const say = document.querySelector("main").dataset;

for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = say.copy;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = say.copied;
    setTimeout(() => { button.textContent = say.copy; }, 2000);
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
    news.textContent = say.stopped;
    refresh.last = "";
  }
}

setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
