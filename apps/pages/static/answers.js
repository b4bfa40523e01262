// No answer is lost between a page and its queue.
//
// Gradio sends the answers of a page's events down one stream. Once none is awaited the server says so
// ("close_stream"), and the page closes the stream and opens another with its next event. An event that is asked
// for while these words are on their way was lost: its own number arrives first, so the page takes the old stream
// for open, closes it, and listens no more. Here the words are kept from the page while it awaits an event, and
// the stream goes on in their place.
(() => {
  const plain = window.fetch.bind(window);
  const joining = new Set(); // requests under way that ask for an event
  const awaited = new Set(); // numbers of events whose answer has not come

  const join = (request) => {
    const asked = plain(...request).then(async (answer) => {
      const { event_id } = await answer.clone().json().catch(() => ({}));
      if (answer.ok && event_id) awaited.add(event_id);
      return answer;
    });
    joining.add(asked);
    const over = () => joining.delete(asked);
    asked.then(over, over);
    return asked;
  };

  const listen = async (request) => {
    const first = await plain(...request);
    if (!first.ok || !first.body) return first;
    const out = new TextEncoder();
    let reader, decoder, rest = "";
    const reading = (answer) => { reader = answer.body.getReader(); decoder = new TextDecoder(); };
    // Messages end with an empty line; JSON holds none.
    const passed = async (message) => {
      const [, kind, event] = /^data: ?\{"msg":"(\w+)","event_id":(?:"(\w+)"|null)/.exec(message.slice(0, 200)) || [];
      if (kind === "process_completed") awaited.delete(event);
      if (kind !== "close_stream") return true;
      await Promise.allSettled(joining);
      if (!awaited.size) return true;
      reading(await plain(...request));
      return false;
    };
    reading(first);
    const body = new ReadableStream({
      async pull(stream) {
        for (let sent = false; !sent; ) {
          const { done, value } = await reader.read();
          if (done) { if (rest) stream.enqueue(out.encode(rest)); stream.close(); return; }
          const messages = (rest + decoder.decode(value, { stream: true })).split("\n\n");
          rest = messages.pop();
          for (const message of messages) {
            if (!(await passed(message))) { rest = ""; break; }
            stream.enqueue(out.encode(`${message}\n\n`));
            sent = true;
          }
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, { status: first.status, headers: first.headers });
  };

  window.fetch = (...request) => {
    const path = new URL(request[0]?.url ?? request[0], window.location).pathname;
    if (path.endsWith("/gradio_api/queue/join")) return join(request);
    if (path.endsWith("/gradio_api/queue/data")) return listen(request);
    return plain(...request);
  };
})();
