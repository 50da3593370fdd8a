// What both pages share: callbacks that tell the test everything, and what it can do with a page.
//
// `note` comes from the test. `onIncomingEvent` is the client's own view of each frame.

export const callbacks = {
  onConnect: ({ conversationId }) => note("connect", conversationId),
  onDisconnect: (details) => {
    const { reason, closeCode, closeReason, message } = details;
    note("disconnect", { reason, closeCode, closeReason, message });
  },
  onError: (message) => note("error", String(message)),
  onMessage: ({ source, message }) => note("message", { source, message }),
  onModeChange: ({ mode }) => note("mode", mode),
  onStatusChange: ({ status }) => note("status", status),
  onInterruption: ({ event_id }) => note("interruption", event_id),
  onAgentResponseCorrection: (correction) => note("correction", correction),
  onAgentChatResponsePart: ({ type, text }) => note("part", { type, text }),
  onAudio: () => note("audio", null),
  onPing: () => note("ping", null),
  onIncomingEvent: ({ type, ...rest }) => note("frame", { type, id: Object.values(rest)[0]?.event_id }),
};

/** Tell once when something is to be heard in the loudspeakers, by volume and by spectrum. */
export function listen(conversation) {
  const timer = setInterval(() => {
    const volume = conversation.getOutputVolume();
    const loudest = Math.max(0, ...conversation.getOutputByteFrequencyData());
    if (volume > 0.01 && loudest > 0) {
      clearInterval(timer);
      note("heard", { volume, loudest });
    }
  }, 20);
}
