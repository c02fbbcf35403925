// Copies a field's text; without this script, its buttons stay hidden.
"use strict";

async function copyFrom(field) {
  field.focus();
  field.select();
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(field.value);
  } else if (!document.execCommand("copy")) { // plain HTTP has no Clipboard API
    throw new Error("refused");
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const said = document.getElementById("copied");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await copyFrom(field);
      said.textContent = "Copied";
      button.focus(); // back to where the keyboard was
    } catch {
      said.textContent = "The token is selected: press Ctrl+C or ⌘C";
    }
  });
}
