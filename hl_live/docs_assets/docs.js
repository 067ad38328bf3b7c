// Sends each form's filled fields as a request and shows the answer below it. The token stays in this variable: it is
// gone when the page is left, and in no storage, address or history.
let token = "";

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function wire(forms) {
  for (const form of forms) {
    const shown = form.nextElementSibling;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
      const url = `${form.getAttribute("action")}${query.size ? `?${query}` : ""}`;
      shown.hidden = false;
      shown.textContent = `GET ${url} …`;
      try {
        const answer = await fetch(url, { headers: headers() });
        const text = await answer.text();
        let pretty = text;
        try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
        shown.textContent = `GET ${url}\n${answer.status}\n\n${pretty}`;
      } catch (error) {
        shown.textContent = `GET ${url}\n${error}`;
      }
    });
  }
}

// Without a token the page has only the field for one; what it may read then is asked for with it.
async function show() {
  const reference = document.getElementById("reference");
  const said = document.getElementById("said");
  if (reference.childElementCount > 0) {
    said.textContent = token ? "Sent with each request." : "Requests are sent without a token.";
    return;
  }
  try {
    const answer = await fetch("/docs", { headers: { ...headers(), Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    said.textContent = answer.ok ? "Sent with each request." : (page.getElementById("said")?.textContent ?? `${answer.status}`);
    reference.replaceChildren(...page.getElementById("reference").childNodes);
    wire(reference.querySelectorAll("form"));
  } catch (error) {
    said.textContent = `${error}`;
  }
}

document.getElementById("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = event.target.elements.token.value.trim();
  void show();
});
wire(document.querySelectorAll("#reference form"));
