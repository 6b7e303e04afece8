// A few small things that a template cannot do: say how the connection is, ask anew, let times tick, keep a log at its end.
(() => {
  "use strict";
  const live = document.getElementById("live");

  const say = (state, text) => {
    if (!live || live.dataset.live === state) return;
    live.dataset.live = state;
    live.querySelector(".live-text").textContent = text;
  };

  if (live) {
    live.addEventListener("htmx:sse:after:connection", () => say("live", "live"));
    live.addEventListener("changed", () => say("live", "live"));
    live.addEventListener("htmx:sse:error", () => say("lost", "connection lost, trying again"));
    live.addEventListener("htmx:sse:before:connection", (event) => {
      if (event.detail.connection.attempt > 0 && !document.hidden) say("lost", "connection lost, trying again");
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) say("paused", "paused");
    });
  }

  const duration = (seconds) => {
    if (seconds < 60) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const whole = Math.round(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
    return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
  };

  const age = (seconds) => {
    const distance = Math.abs(seconds);
    if (distance < 1) return "just now";
    let text = `${Math.floor(distance)} s`;
    for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
      if (distance >= size) {
        text = `${Math.floor(distance / size)} ${name}`;
        break;
      }
    }
    return seconds >= 0 ? `${text} ago` : `in ${text}`;
  };

  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  // Where the page says what the server's clock shows, ages are by that: the clock of this machine may be another.
  let ahead = 0;
  let said = null;
  const tick = () => {
    if (document.hidden) return;
    const clock = document.querySelector("[data-now]");
    if (clock && clock.dataset.now !== said) {
      said = clock.dataset.now;
      ahead = Date.now() - Number(said);
    }
    const now = Date.now() - ahead;
    for (const element of document.querySelectorAll("[data-at]")) {
      write(element, age((now - Number(element.dataset.at)) / 1000));
    }
    for (const element of document.querySelectorAll("[data-running-since]")) {
      write(element, duration((now - Number(element.dataset.runningSince)) / 1000));
    }
  };
  tick();
  setInterval(tick, 1000);
  document.addEventListener("htmx:after:swap", tick);

  // What somebody unfolded stays so when the page is refreshed around it.
  htmx.registerExtension("unfolded", {
    htmx_before_morph_attr: (element, detail) => !(detail.attrName === "open" && element instanceof HTMLDetailsElement),
  });

  // A sign-in that has run out answers with another page: then that one is wanted whole.
  document.addEventListener("htmx:before:response", (event) => {
    if (!event.detail.ctx.response.raw.redirected) return;
    event.preventDefault();
    location.reload();
  });

  // What is observed is in no stream: the page asks for it anew, a while after each answer, and only while it is seen.
  const polled = document.querySelector("[data-poll]");
  if (polled) {
    let timer = 0;
    let failed = false;
    const later = (seconds) => {
      clearTimeout(timer);
      timer = setTimeout(ask, seconds * 1000);
    };
    const ask = () => {
      later(2);
      if (document.hidden || "older" in polled.dataset) return;
      later(15);
      failed = false;
      polled.dispatchEvent(new Event("refresh"));
    };
    const lost = () => {
      failed = true;
      say("lost", "no answer, trying again");
    };
    polled.addEventListener("htmx:response:error", lost);
    polled.addEventListener("htmx:error", lost);
    polled.addEventListener("htmx:finally:request", () => {
      if (!failed) say("live", "live");
      later(polled.querySelector("[data-settled]") ? 10 : 2);
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) ask();
    });
    say("live", "live");
    later(2);
  }

  const log = document.getElementById("log");
  if (log) {
    let follow = true;
    log.addEventListener("scroll", () => {
      follow = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    });
    new MutationObserver(() => {
      if (follow) log.scrollTop = log.scrollHeight;
    }).observe(log, { childList: true });
    log.scrollTop = log.scrollHeight;
  }

  // The address says what is shown, so that a filtered list can be kept and sent.
  const filter = document.querySelector("form.filter");
  if (filter) {
    document.documentElement.classList.add("js");
    const remember = () => {
      const given = new URLSearchParams();
      for (const [name, value] of new FormData(filter)) if (value) given.set(name, value);
      const query = given.toString();
      const path = new URL(filter.action).pathname;
      history.replaceState(null, "", query ? `${path}?${query}` : path);
      const section = document.querySelector(filter.getAttribute("hx-target"));
      section.setAttribute("hx-get", filter.getAttribute("hx-get"));
      section.removeAttribute("data-older");
    };
    filter.addEventListener("input", remember);
    filter.addEventListener("change", remember);
  }
})();
