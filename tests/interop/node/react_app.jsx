// The quickstart's React app with what it lacks, the provider, and a signed URL.

import { ConversationProvider, useConversation } from "@elevenlabs/react";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { callbacks, listen } from "./stage.js";

function App() {
  const conversation = useConversation(callbacks);

  useEffect(() => {
    window.stage = {
      begin: (options) => conversation.startSession(options),
      say: (text) => conversation.sendUserMessage(text),
      listen: () => listen(conversation),
      end: () => conversation.endSession(),
    };
  });

  useEffect(() => {
    note("ready", "react");
  }, []);

  return <p id="status">{conversation.status}</p>;
}

createRoot(document.getElementById("root")).render(
  <ConversationProvider>
    <App />
  </ConversationProvider>,
);
