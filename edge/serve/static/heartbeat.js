// A worker that tells the server that the page is still there: timers of a tab in the background are held up.

const HEARTBEAT_MS = 20_000;

onmessage = ({ data: headers }) => {
  setInterval(() => fetch("/heartbeat", { method: "POST", headers, body: "{}" }).catch(() => {}), HEARTBEAT_MS);
};
