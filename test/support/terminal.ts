/**
 * Programs on a terminal: script(1) gives them one.
 *
 * @module
 */

/** What runs on a terminal, and somebody who types. */
export class Terminal {
  readonly #script: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  /** All that was shown. */
  shown = "";

  /** Starts a command line of sh(1), as the leader of the terminal's session. */
  constructor(line: string) {
    this.#script = new Deno.Command("script", {
      args: ["-qfec", line, "/dev/null"],
      env: { TERM: "dumb", SHELL: "/bin/sh", PS1: "", HISTFILE: "" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#script.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.#script.stdout.pipeThrough(new TextDecoderStream())) this.shown += text;
  }

  /** Types. */
  async type(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** Waits until something was shown. */
  async shows(text: string): Promise<void> {
    for (const end = performance.now() + 10_000; !this.shown.includes(text);) {
      if (performance.now() > end) throw new Error(`Not shown within 10 s: ${text}; but: ${this.shown}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Takes the terminal away from its session, as closing a window does. */
  hangUp(): void {
    this.#script.kill("SIGKILL");
  }

  /** Waits for the end of what was started; its exit status. */
  async end(): Promise<number> {
    const { code } = await this.#script.status;
    await this.#writer.close().catch(() => {});
    await this.#reading;
    return code;
  }
}
