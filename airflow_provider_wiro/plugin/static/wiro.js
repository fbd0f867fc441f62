// A placeholder.
const { React } = globalThis;
const WiroVideos = () => React.createElement("p", null, "Videos");
globalThis["Wiro videos"] = WiroVideos;
globalThis.AirflowPlugin = WiroVideos;
