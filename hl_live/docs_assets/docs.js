// Sends the form's filled fields as a request and shows the answer below it.
for (const form of document.forms) {
  const shown = form.nextElementSibling;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    const url = `${form.getAttribute("action")}${query.size ? `?${query}` : ""}`;
    shown.hidden = false;
    shown.textContent = `GET ${url} …`;
    try {
      const answer = await fetch(url);
      const text = await answer.text();
      let pretty = text;
      try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
      shown.textContent = `GET ${url}\n${answer.status}\n\n${pretty}`;
    } catch (error) {
      shown.textContent = `GET ${url}\n${error}`;
    }
  });
}
