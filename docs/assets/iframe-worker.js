/* Browsers start no Worker from a file: address. Search then runs in a hidden frame instead, which
   behaves as a Worker as far as the search script asks: messages both ways, and importScripts. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.waiting = [];
      const source = new URL(address, document.baseURI).href;
      this.frame.addEventListener("load", () => this.start(source), { once: true });
      document.addEventListener("DOMContentLoaded", () => this.attach());
      if (document.body) this.attach();
    }

    attach() {
      if (!this.frame.isConnected) document.body.append(this.frame);
    }

    start(source) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.hear(data);
      inside.importScripts = (...addresses) =>
        addresses.reduce(
          (before, each) => before.then(() => load(inside, new URL(each, source).href)),
          Promise.resolve(),
        );
      load(inside, source).then(() => {
        this.inside = inside;
        this.waiting.splice(0).forEach((data) => this.postMessage(data));
      });
    }

    hear(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }

    postMessage(data) {
      if (this.inside) {
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
      } else {
        this.waiting.push(data);
      }
    }

    terminate() {
      this.frame.remove();
    }
  };
}

function load(inside, source) {
  return new Promise((resolve, reject) => {
    const script = inside.document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`cannot load ${source}`));
    inside.document.head.append(script);
  });
}
