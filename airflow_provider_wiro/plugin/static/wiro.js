// The page "Videos": what was made, what it cost, what is being made, and what failed. One module, without a build
// step: Airflow puts React, Chakra UI and its router on globalThis. It loads nothing from other hosts.

const { React, ChakraUI: C, ReactRouterDOM: Router } = globalThis;
const { useCallback, useEffect, useMemo, useRef, useState } = React;
const h = React.createElement;

const PER_PAGE = 24;
const MOST_AT_ONCE = 12; // videos that are asked for at the same time
const LIVE_EVERY = 5_000; // milliseconds between two looks while something is being made
const QUIET_EVERY = 30_000;
const STATES = {
  succeeded: { label: "Succeeded", palette: "green" },
  running: { label: "Running", palette: "cyan" },
  queued: { label: "Queued", palette: "gray" },
  failed: { label: "Failed", palette: "red" },
  cancelled: { label: "Cancelled", palette: "orange" },
};
const SCREEN = { aspectRatio: "16 / 9", width: "100%", position: "relative", overflow: "hidden", bg: "gray.900" };
const RING = { outline: "3px solid", outlineColor: "blue.solid", outlineOffset: "2px" };

const url = (path) => new URL(path, document.baseURI).href; // Airflow may live below a path
const isLive = (video) => video.status === "running" || video.status === "queued";
const titleOf = (video) => video.prompt || video.label || `Wiro task ${video.wiro_task_id ?? "without a number yet"}`;
const saysMore = (label, title) => label && !title.startsWith(label.replace(/(\.{3}|…)$/, "").trim());
const isFilm = (file) => file.media && file.content_type.startsWith("video/");
const filmOf = (video) => video.files.find(isFilm);

function spoken(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function taskPath({ dag_id, run_id, task_id, map_index }) {
  const [dag, run, task] = [dag_id, run_id, task_id].map(encodeURIComponent);
  return `/dags/${dag}/runs/${run}/tasks/${task}${map_index >= 0 ? `/mapped/${map_index}` : ""}`;
}

// What is asked of the server

async function ask(scope, query, signal) {
  const known = { ...scope, ...query, limit: PER_PAGE, offset: query.page * PER_PAGE };
  delete known.page;
  const given = Object.entries(known).filter(([, value]) => value !== undefined && value !== "");
  let answer;
  try {
    answer = await fetch(url(`wiro/api/videos?${new URLSearchParams(given)}`), { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("Airflow cannot be reached.");
  }
  if (answer.status === 401) throw new Error("You are signed out: reload the page to sign in again.");
  if (answer.status === 403) throw new Error("You may not see the XComs of this Dag, and so not its videos.");
  if (!answer.ok) throw new Error(`Airflow's api-server answers with an error (${answer.status}); its log tells why.`);
  const found = await answer.json().catch(() => null);
  if (!Array.isArray(found?.videos)) throw new Error("Something answers that is not Airflow's api-server.");
  return found;
}

function useVideos(scope, query) {
  const [shown, setShown] = useState({ found: null, problem: null });
  const key = JSON.stringify([scope, query]);
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    let isAsking = false;
    async function look() {
      clearTimeout(timer);
      if (isAsking || document.hidden) return; // a hidden tab asks again when it is looked at
      isAsking = true;
      let pause = QUIET_EVERY;
      try {
        const found = await ask(scope, query, stop.signal);
        if (found.counts?.running || found.counts?.queued) pause = LIVE_EVERY;
        setShown({ found, problem: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        setShown((before) => ({ ...before, problem: error.message })); // what is there stays
      }
      isAsking = false;
      timer = setTimeout(look, pause);
    }
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [key]);
  return shown;
}

// Turns: a page of players must not ask for all its files at once

const turns = { taken: 0, waiting: [] };

function takeTurn(begin) {
  let state = "waiting";
  const start = () => {
    state = "running";
    turns.taken += 1;
    begin();
  };
  if (turns.taken < MOST_AT_ONCE) start();
  else turns.waiting.push(start);
  return function leave() {
    if (state === "waiting") turns.waiting = turns.waiting.filter((other) => other !== start);
    if (state === "running") {
      turns.taken -= 1;
      turns.waiting.shift()?.();
    }
    state = "over";
  };
}

function Player({ video, file }) {
  const element = useRef(null);
  const leave = useRef(() => {});
  const [isWanted, setIsWanted] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      watch.disconnect();
      leave.current = takeTurn(() => setIsWanted(true));
    });
    watch.observe(element.current);
    return () => {
      watch.disconnect();
      leave.current();
    };
  }, []);
  const isCalm = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
  return h("video", {
    ref: element,
    src: isWanted ? url(file.media) + "#t=0.1" : undefined, // the first frame is often black
    poster: isWanted && video.poster ? url(video.poster) : undefined,
    muted: true,
    loop: true,
    playsInline: true,
    preload: isWanted ? "metadata" : "none",
    tabIndex: -1,
    "aria-hidden": true,
    onLoadedData: () => leave.current(),
    onError: () => leave.current(),
    onMouseEnter: isCalm ? undefined : (event) => event.target.play().catch(() => {}),
    onMouseLeave: (event) => event.target.pause(),
    style: { width: "100%", height: "100%", objectFit: "contain", display: "block" },
  });
}

// What stands where a video is not, or not yet

function useNow(isRunning) {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    if (!isRunning) return undefined;
    const timer = setInterval(() => setNow(Date.now() / 1000), 1000);
    return () => clearInterval(timer);
  }, [isRunning]);
  return now;
}

function Placeholder({ video, typical }) {
  const now = useNow(isLive(video));
  const elapsed = video.ordered_at ? Math.max(0, now - video.ordered_at) : null;
  const words = { queued: "Waits for a place in the Wiro account", running: "Wiro is working on it" }[video.status];
  const progress = video.status === "running" && typical && elapsed !== null ? Math.min(97, (100 * elapsed) / typical) : null;
  return h(
    C.Flex,
    { ...SCREEN, bg: "bg.muted", direction: "column", align: "center", justify: "center", gap: 2, px: 5, textAlign: "center" },
    isLive(video) && h(C.Spinner, { size: "md", color: video.status === "running" ? "cyan.solid" : "fg.subtle" }),
    h(C.Text, { fontSize: "sm", color: isLive(video) || video.status === "succeeded" ? "fg.muted" : "red.fg", lineClamp: 4 }, words ?? reasonOf(video)),
    video.status === "running" && elapsed !== null && h(C.Text, { fontSize: "xs", color: "fg.muted" }, `for ${spoken(elapsed)}${typical ? `, usually ${spoken(typical)}` : ""}`),
    progress !== null &&
      h(
        C.Progress.Root,
        { value: progress, size: "xs", width: "70%", colorPalette: "cyan", "aria-label": "Expected progress" },
        h(C.Progress.Track, null, h(C.Progress.Range)),
      ),
  );
}

function reasonOf(video) {
  if (video.error) return video.error;
  if (video.status === "cancelled") return "It was cancelled at Wiro.";
  if (video.status === "failed") return "It failed, and no reason is known.";
  return video.files.length ? "It cannot be played here." : "It is ready at Wiro, and not fetched yet.";
}

// Cards

function Tag({ palette, children }) {
  return h(C.Badge, { variant: palette ? "subtle" : "outline", colorPalette: palette ?? "gray", size: "sm" }, children);
}

function tagsOf(video) {
  const { resolution, ratio, duration, fps } = video.ordered;
  return [resolution, ratio, duration && `${duration} s`, fps && `${fps} fps`].filter(Boolean);
}

function Card({ video, typical, showsDag, onOpen }) {
  const film = filmOf(video);
  const title = titleOf(video);
  const details = [
    video.index === null ? saysMore(video.label, title) && video.label : `#${video.index}`,
    video.ordered.seed && `seed ${video.ordered.seed}`,
    video.seconds && `took ${spoken(video.seconds)}`,
    video.reused_from && "reused, not paid",
  ].filter(Boolean);
  return h(
    C.Box,
    { as: "li", borderWidth: "1px", rounded: "lg", overflow: "hidden", bg: "bg.panel", display: "flex", flexDirection: "column", transition: "box-shadow 0.15s", _hover: { shadow: "md" } },
    h(
      C.Box,
      { as: "button", type: "button", "aria-label": `Open: ${title}`, onClick: onOpen, cursor: "pointer", display: "block", width: "100%", textAlign: "inherit", _focusVisible: { ...RING, outlineOffset: "-3px" }, position: "relative" },
      film ? h(C.Box, SCREEN, h(Player, { video, file: film, key: film.media })) : h(Placeholder, { video, typical }),
    ),
    h(
      C.Flex,
      { direction: "column", gap: 2, p: 4, flex: 1 },
      h(C.Text, { fontWeight: "medium", lineClamp: 2, minHeight: "3em", title }, title),
      h(
        C.Flex,
        { gap: 1.5, wrap: "wrap" },
        h(Tag, { palette: STATES[video.status].palette }, STATES[video.status].label),
        tagsOf(video).map((tag) => h(Tag, { key: tag }, tag)),
        video.cost !== null && h(Tag, { palette: "green" }, `$${video.cost}`),
      ),
      h(C.Text, { fontSize: "xs", color: "fg.muted", lineClamp: 1, title: details.join(" · ") }, details.join(" · ") || "\u00a0"),
      h(Links, { video, film, showsDag }),
    ),
  );
}

function Links({ video, film, showsDag }) {
  const { dag_id, task_id, map_index } = video.ti;
  const place = `${showsDag ? `${dag_id} · ` : ""}${task_id}${map_index >= 0 ? ` [${map_index}]` : ""}`;
  const away = { target: "_blank", rel: "noopener noreferrer" };
  return h(
    C.Flex,
    { gap: 3, fontSize: "sm", mt: "auto", align: "center" },
    h(C.Link, { asChild: true, color: "fg.info", flex: 1, minWidth: 0 }, h(Router.Link, { to: taskPath(video.ti), title: place }, h(C.Text, { as: "span", truncate: true }, place))),
    !film && video.source_url && h(C.Link, { href: video.source_url, color: "fg.info", whiteSpace: "nowrap", ...away }, "Watch at Wiro ↗"),
    (film || !video.source_url) && video.wiro_url && h(C.Link, { href: video.wiro_url, color: "fg.info", whiteSpace: "nowrap", ...away }, "Wiro ↗"),
    film && h(C.Link, { href: url(film.media), download: film.name, color: "fg.info" }, "Download"),
  );
}

// The lightbox

const wordsOf = (name) => (name === "fps" ? "Frames per second" : name[0].toUpperCase() + name.slice(1).replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));

function Facts({ video }) {
  const rows = {
    Status: STATES[video.status].label,
    Model: video.model,
    ...Object.fromEntries(Object.entries(video.ordered).map(([name, value]) => [wordsOf(name), name === "duration" ? `${value} s` : value])),
    Cost: video.cost === null ? null : `$${video.cost}`,
    Took: video.seconds ? spoken(video.seconds) : null,
    "Wiro task": video.wiro_task_id,
    "Reused from": video.reused_from,
  };
  return h(
    C.Box,
    { as: "dl", display: "grid", gridTemplateColumns: "repeat(auto-fill, minmax(9rem, 1fr))", gap: 3, fontSize: "sm" },
    Object.entries(rows)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) =>
        h(C.Box, { key: name, minWidth: 0 }, h(C.Box, { as: "dt", color: "fg.muted", fontSize: "xs" }, name), h(C.Box, { as: "dd", overflowWrap: "anywhere" }, value)),
      ),
  );
}

function Lightbox({ video, showsDag, onClose, onStep }) {
  const film = filmOf(video);
  const closer = useRef(null); // the first to have the focus: on the player, arrows would seek
  function onKeyDown(event) {
    if (event.target.tagName === "VIDEO" || !["ArrowLeft", "ArrowRight"].includes(event.key)) return; // it seeks then
    event.preventDefault();
    onStep(event.key === "ArrowRight" ? 1 : -1);
  }
  return h(
    C.Dialog.Root,
    { open: true, initialFocusEl: () => closer.current, onOpenChange: ({ open }) => open || onClose(), size: "xl", placement: "center", scrollBehavior: "inside" },
    h(C.Portal, null,
      h(C.Dialog.Backdrop),
      h(C.Dialog.Positioner, null,
        h(
          C.Dialog.Content,
          { onKeyDown, overflow: "hidden", "data-wiro": "lightbox" },
          film
            ? h("video", { key: film.media, src: url(film.media), poster: video.poster ? url(video.poster) : undefined, controls: true, autoPlay: true, loop: true, playsInline: true, "aria-label": titleOf(video), style: { width: "100%", maxHeight: "48vh", flexShrink: 0, background: "black" } })
            : h(Placeholder, { video }),
          h(
            C.Dialog.Body,
            { pt: 4, display: "flex", flexDirection: "column", gap: 4 },
            h(C.Dialog.Title, { fontSize: "md", lineHeight: "short", fontWeight: "medium", maxHeight: "7em", overflowY: "auto", flexShrink: 0 }, titleOf(video)),
            video.error && h(C.Text, { color: "red.fg", fontSize: "sm" }, video.error),
            h(Facts, { video }),
            video.files.filter((file) => file.media).length > 1 &&
              h(C.Flex, { gap: 3, wrap: "wrap", fontSize: "sm" }, video.files.filter((file) => file.media).map((file) => h(C.Link, { key: file.media, href: url(file.media), download: file.name, color: "fg.info" }, file.name))),
            h(Links, { video, film, showsDag }),
          ),
          h(
            C.Flex,
            { position: "absolute", top: 3, right: 3, gap: 2 },
            [["Previous video", "←", () => onStep(-1)], ["Next video", "→", () => onStep(1)], ["Close", "✕", onClose]].map(([label, sign, onClick]) =>
              h(C.IconButton, { key: label, ref: label === "Close" ? closer : undefined, "aria-label": label, size: "sm", variant: "subtle", rounded: "full", onClick }, sign),
            ),
          ),
        ),
      ),
    ),
  );
}

// Around the cards

function Sum({ label, value }) {
  return h(C.Box, null, h(C.Text, { color: "fg.muted", fontSize: "sm" }, label), h(C.Text, { fontSize: "2xl", fontWeight: "semibold", lineHeight: "short" }, value));
}

function Totals({ found }) {
  const [made, all] = [found.counts.succeeded, found.total].map((count) => count.toLocaleString());
  return h(
    C.Flex,
    { gap: { base: 6, md: 12 }, role: "group", "aria-label": "Totals" },
    h(Sum, { label: "Videos", value: made === all ? all : `${made} of ${all}` }),
    h(Sum, { label: "Cost", value: `$${found.cost}` }),
    h(Sum, { label: "Footage", value: spoken(found.footage_seconds) }),
  );
}

function Filters({ found, query, onChange }) {
  const [text, setText] = useState(query.search);
  useEffect(() => setText(query.search), [query.search]);
  useEffect(() => {
    const timer = setTimeout(() => text !== query.search && onChange({ search: text, page: 0 }), 300);
    return () => clearTimeout(timer);
  }, [text]);
  const choices = [["", "All", found.total], ...Object.entries(STATES).map(([state, { label }]) => [state, label, found.counts[state]])];
  return h(
    C.Flex,
    { gap: 3, wrap: "wrap", align: "center", justify: "space-between" },
    h(
      C.Flex,
      { gap: 1.5, wrap: "wrap", role: "group", "aria-label": "Show only" },
      choices
        .filter(([state, , count]) => state === "" || count > 0 || state === query.state)
        .map(([state, label, count]) =>
          h(C.Button, { key: state, size: "xs", rounded: "full", variant: query.state === state ? "solid" : "outline", "aria-pressed": query.state === state, onClick: () => onChange({ state, page: 0 }) }, `${label} ${count.toLocaleString()}`),
        ),
    ),
    h(C.Input, { "aria-label": "Find in prompts", placeholder: "Find in prompts", type: "search", size: "sm", maxWidth: "20rem", value: text, onChange: (event) => setText(event.target.value) }),
  );
}

function Pages({ count, page, onPage }) {
  if (count <= PER_PAGE) return null;
  const button = (label, sign) => h(C.IconButton, { "aria-label": label, variant: "ghost", size: "sm" }, sign);
  return h(
    C.Pagination.Root,
    { as: "nav", "aria-label": "Pages", count, pageSize: PER_PAGE, page: page + 1, siblingCount: 2, onPageChange: (change) => onPage(change.page - 1), display: "flex", justifyContent: "center", gap: 1, py: 2 },
    h(C.Pagination.PrevTrigger, { asChild: true }, button("Previous page", "‹")),
    h(C.Pagination.Items, { render: ({ value }) => h(C.IconButton, { "aria-label": `Page ${value}`, size: "sm", variant: value === page + 1 ? "solid" : "ghost", px: 3, width: "auto" }, value) }),
    h(C.Pagination.NextTrigger, { asChild: true }, button("Next page", "›")),
  );
}

function Notice({ title, children, ...more }) {
  return h(
    C.Flex,
    { direction: "column", align: "center", gap: 2, py: 16, px: 6, textAlign: "center", ...more },
    h(C.Text, { fontSize: "lg", fontWeight: "semibold" }, title),
    h(C.Text, { color: "fg.muted", maxWidth: "36rem" }, children),
  );
}

function Empty({ scope, query, onChange }) {
  if (query.search || query.state) {
    return h(Notice, { title: "No video matches" }, "Nothing here is found with this filter. ", h(C.Button, { size: "xs", variant: "outline", onClick: () => onChange({ state: "", search: "", page: 0 }) }, "Show all"));
  }
  const where = { task_id: "This task has told of no video.", run_id: "This Dag run has told of no video yet.", dag_id: "No run of this Dag has told of a video yet." };
  const here = where[["task_id", "run_id", "dag_id"].find((name) => scope[name] !== undefined)] ?? "No Dag has told of a video yet.";
  return h(
    Notice,
    { title: "No videos yet" },
    `${here} Videos appear as soon as a task of SeedanceRunOperator, WiroRunOperator, SeedanceBatchOperator, WiroTaskSensor or WiroFetchOutputsOperator orders, awaits or fetches them. This is a view of XComs: what Airflow has cleaned up is not shown any more.`,
  );
}

function Hint({ children }) {
  return h(C.Text, { fontSize: "sm", color: "fg.muted", role: "status" }, children);
}

function hintsOf(found, problem) {
  const cannotPlay = found.videos.some((video) => video.files.some((file) => !file.media));
  return [
    problem && `What you see may be old: ${problem}`,
    found.truncated && "Only the newest videos are shown and counted: there are too many for one page.",
    cannotPlay && "Some files cannot be played here: the option [wiro] ui_media_roots of Airflow names the folders that may be shown.",
  ].filter(Boolean);
}

function Videos({ dagId, runId, taskId, mapIndex }) {
  const scope = useMemo(() => ({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex }), [dagId, runId, taskId, mapIndex]);
  const [query, setQuery] = useState({ state: "", search: "", page: 0 });
  const [opened, setOpened] = useState(null); // position on the page
  const { found, problem } = useVideos(scope, query);
  const change = useCallback((part) => setQuery((before) => ({ ...before, ...part })), []);
  useEffect(() => setOpened(null), [scope]);
  if (found === null) {
    return problem ? h(Notice, { title: "The videos cannot be shown", role: "alert" }, problem) : h(C.Flex, { justify: "center", py: 16 }, h(C.Spinner, { "aria-label": "Loading" }));
  }
  function step(by) {
    const next = opened + by;
    const pages = Math.ceil(found.matching / PER_PAGE);
    if (next >= 0 && next < found.videos.length) setOpened(next);
    else if (next < 0 ? query.page > 0 : query.page + 1 < pages) {
      change({ page: query.page + by });
      setOpened(next < 0 ? PER_PAGE - 1 : 0);
    }
  }
  const video = opened === null ? undefined : found.videos[opened];
  const showsDag = dagId === undefined;
  if (!found.total) return h(Empty, { scope, query, onChange: change });
  return h(
    C.Flex,
    { direction: "column", gap: 4 },
    scope.dag_id === undefined && h(C.Heading, { as: "h1", size: "xl" }, "Videos made at Wiro"),
    h(Totals, { found }),
    (found.total > 1 || query.search || query.state) && h(Filters, { found, query, onChange: change }),
    hintsOf(found, problem).map((hint) => h(Hint, { key: hint }, hint)),
    found.videos.length
      ? h(
          C.Grid,
          { as: "ul", role: "list", "aria-label": "Videos", gap: 4, templateColumns: "repeat(auto-fill, minmax(min(100%, 17rem), 1fr))", listStyle: "none" },
          found.videos.map((each, position) => h(Card, { key: each.id, video: each, typical: found.typical_seconds[each.model], showsDag, onOpen: () => setOpened(position) })),
        )
      : h(Empty, { scope, query, onChange: change }),
    h(Pages, { count: found.matching, page: query.page, onPage: (page) => change({ page }) }),
    video && h(Lightbox, { video, showsDag, onClose: () => setOpened(null), onStep: step }),
  );
}

// A fault in this page must not take Airflow's along.
class Guard extends React.Component {
  constructor(props) {
    super(props);
    this.state = { error: null };
  }

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    if (this.state.error === null) return this.props.children;
    return h(Notice, { title: "The page of videos has a fault", role: "alert" }, `${this.state.error.message ?? this.state.error}. The rest of Airflow is not concerned; a reload shows the page again.`);
  }
}

function WiroVideos(props) {
  return h(C.Box, { as: "section", "aria-label": "Videos made at Wiro", "data-wiro": "videos", p: 2, width: "100%" }, h(Guard, null, h(Videos, props)));
}

// Airflow finds a page by the name of its tab; the first time, under this name.
globalThis["Wiro videos"] = WiroVideos;
globalThis.Videos = WiroVideos;
globalThis.AirflowPlugin = WiroVideos;
