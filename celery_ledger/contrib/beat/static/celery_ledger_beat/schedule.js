/* Says in words when a chosen crontab runs; after django-celery-beat, which writes this into its page. */
"use strict";
{
  const readable = JSON.parse(document.getElementById("readable-crontabs").textContent);
  const choice = document.getElementById("id_crontab");
  const help = document.querySelector(".field-crontab .help");
  const own = document.querySelector(".field-crontab_translation");
  if (own) own.style.display = "none";
  if (choice && help) {
    const usual = help.innerHTML;
    choice.addEventListener("change", () => {
      const words = document.createElement("div");
      words.textContent = readable[choice.value] ? `In words: ${readable[choice.value]}` : "";
      help.innerHTML = usual;
      help.append(words);
    });
  }
}
