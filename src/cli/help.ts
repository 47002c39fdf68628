/**
 * What nsrun says of itself. Loaded only when it is asked for.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };

/** What `--version` prints. */
export const VERSION_TEXT: string = `nsrun ${config.version}`;

/** What is printed when there is no command. */
export const USAGE_TEXT = `Usage: nsrun [options] [--] command [arguments]
See nsrun --help for the options.`;

const HELP = `${VERSION_TEXT}: runs a command in Linux namespaces of its own

# Usage
  nsrun [options] [--] command [arguments]
  nsrun build -o FILE [--arch ARCH] [--any-command] [options] [--] command [arguments]
                              Write a stand-alone executable that does it, for x86_64 or aarch64 (--allow-write)
  nsrun inspect [--json] FILE What such an executable does (--allow-read)
  nsrun try [--commit|--discard] [options] [--] command [arguments]
                              Run it on a copy-on-write view of the file system, show what it changed, and ask whether
                              to keep that
  nsrun explain [options] [--] [command] [arguments]
  nsrun doctor [--json]       What this machine allows, tried; and what to do about what it does not

  The command begins at the first word that is no option, or after "--". Nothing is private unless it is asked for.
  Without CAP_SYS_ADMIN there is a user namespace around the others in which nobody's id changes.

# Namespaces
  -m, --private-mount         Mounts of its own: what is mounted or unmounted inside does not show outside
  -t, --private-tmp[=PARTS]   A fresh tmpfs on /tmp; implies --private-mount. PARTS: size=16m (k, m, g or %; default
                              50% of the memory), mode=1777 (default), nr-inodes=10k, uid=ID, gid=ID,
                              huge=never|always|within_size|advise
  -p, --private-pid           The command is PID 1 and sees no process but its own; implies --private-mount, for /proc
      --no-proc               Leave /proc as it is, with --private-pid
      --init                  PID 1 is a small init, and the command its child: zombies are reaped, and signals do what
                              they do anywhere. Implies --private-pid
      --on-main-exit WHAT     What becomes of the rest when the command ends, with --init: kill (default) or wait
  -n, --private-net           No network but a loopback that is up
  -i, --private-ipc           System V IPC and POSIX message queues of its own
      --private-sysvsem       Semaphores that nobody else touches, and an undo list of its own; implies --private-ipc
  -u, --private-uts           A hostname and domainname of its own
      --hostname NAME         The hostname inside; implies --private-uts
      --domainname NAME       The NIS domainname inside; implies --private-uts
  -C, --private-cgroup        The caller's cgroup is the root of what is seen
  -T, --private-time[=PARTS]  Clocks of its own. PARTS: monotonic=SECONDS, boottime=SECONDS to add; default 0
  -U, --private-user[=WHO]    A user namespace of its own. WHO the caller is inside: root (default), self,
                              uid=ID,gid=ID (what is left out stays); or no: never make one
      --uid-map IN:OUT[:N]    Which user ids there are inside: N (default 1) from IN on are those from OUT on outside.
                              Can be given again. Or auto: the caller as user 0, or as --private-user=uid=ID says, and
                              its ids of /etc/subuid at all others. Implies --private-user, needs --gid-map
      --gid-map IN:OUT[:N]    The same for group ids
      --setgroups WORD        Whether groups can be given up and taken on inside: allow (default for who has CAP_SETGID)
                              or deny. Implies --private-user

# File system
      --sandbox               Programs of this system, read-only, and nothing else of it: an empty /tmp, /dev, /proc and
                              home, no network, no other process, no capability. Any option takes the place of its own,
                              and --no-private-net and the like take away what it has
      --root WHAT             What is at / inside: host (default), empty, a folder, or overlay:lower=DIR,upper=DIR|tmpfs

      --ephemeral[=PARTS]     What is written goes elsewhere, to be kept or dropped afterwards: for nsrun try, which
                              has it anyway. PARTS: dir=DIR, where it goes (default TMPDIR, or /var/tmp; /dev/shm is
                              in memory), readonly=PATH, what cannot be written to, and writable=DIR, a folder of yours
                              in one of others, beside the current one, HOME and /tmp (both can be given again)

  These are done in the order given, inside. Folders on the way are made in what is new there, never outside. Sources
  can be relative to the present folder. A backslash stands before a colon or comma that is part of a path.

      --bind SRC[:DST[:PARTS]]  A file or folder of the outside. PARTS: ro, nosuid, nodev, noexec, no-recursive,
                              inside (it is one of the inside), if-missing=error|skip|create
      --ro-bind SRC[:DST[:PARTS]]  The same, read-only
      --tmpfs DST[:PARTS]     A file system in memory. PARTS: size=16m, mode=755, nr-inodes=10k
      --proc DST[:PARTS]      The processes. PARTS: ro, hidepid=invisible, subset=pid
      --dev DST               A small /dev
      --mqueue DST            POSIX message queues
      --sysfs DST[:rw]        The kernel's devices, read-only
      --overlay DST:PARTS     Folders over each other. PARTS: lower=DIR (the uppermost first, can be given again),
                              upper=DIR|tmpfs, work=DIR
      --symlink TO:DST        A symbolic link
      --dir DST[:mode=755]    A folder
      --file DST:TEXT         A file with this text, which all can read; --config has other permissions
      --remount DST:PARTS     Other flags for a mount: ro, rw, nosuid, suid, nodev, dev, noexec, exec, no-recursive
      --hide DST              Nothing to be seen there

# Privileges and limits
      --no-new-privs          Set-user-ID bits and file capabilities give nothing. Default in a user namespace, but for
                              root
      --new-privs             Set-user-ID bits and file capabilities give what they do outside
      --capabilities WHICH    none: no capability, root or not
      --cap-keep CAP_NAME,…   These capabilities and no others
      --cap-drop CAP_NAME,…   All but these
      --cap-add CAP_NAME,…    These as well, for who is not root inside
      --disable-user-namespaces
                              No user namespace can be made inside; needs --private-user=uid=ID, not 0, or another
                              --private-user and --cap-drop CAP_SYS_RESOURCE
      --groups ID,…           Supplementary groups; empty for none
      --rlimit NAME=LIMIT     A limit as of getrlimit(2), such as nofile=64, as=1g, core=0, fsize=unlimited, or
                              nproc=100:200 (soft and hard). Can be given again
      --umask MODE            The permissions that new files do not get, such as 077
      --new-session           A session of its own, apart from the terminal
      --private-keyring       A session keyring of its own
      --nice N                From -20, before others, to 19, after them
      --cpu-affinity CPU,…    Run on these CPUs alone
      --oom-score-adj N       From -1000, never, to 1000, first, to be killed when memory is short

  A cgroup of its own, for the command and all that it starts, together; it is removed, and what is left in it killed,
  when the command ends. It takes Linux 5.14, and a cgroup that this user may write to, as systemd-run --user --scope
  -p Delegate=yes gives one. SIZE: bytes, 16m (k, m, g, t), or max.

      --cgroup                One without limits; the following imply it
      --pids-max N            Processes and threads at a time
      --memory-max SIZE       Memory: who would take more is killed
      --memory-high SIZE      Memory from which on it is slowed down
      --memory-swap-max SIZE  Swap
      --cpu-max CPUS          CPU time, as a number of CPUs such as 0.5, or QUOTA/PERIOD in microseconds
      --cpu-weight N          Its share of CPU time beside others, from 1 to 10000; default 100
      --io-weight N           The same for disks
      --cpuset-cpus LIST      Which CPUs, such as 0-3,5
      --cpuset-mems LIST      Which memory nodes
      --hugetlb-max PAGE=SIZE Huge pages, such as 2MB=64m. Can be given again
      --cgroup-parent DIR     The cgroup that it is made in; default that of nsrun, or the one around that

# System calls and files
      --landlock RULE         What can be used, and nothing else: read=PATH, write=PATH, execute=PATH (with all below),
                              bind-tcp=[PORT], connect-tcp=[PORT] (without PORT: none); if-missing=skip goes on where
                              the kernel has no Landlock. One rule each: can be given again
      --seccomp WHAT          Which can be made: default, what container engines allow, or a file: of JSON with default
                              and rules, as the library has them, or of BPF, which --config has no way to write. Deno
                              needs --allow-read for that; - is stdin, as for --config. Comes with no_new_privs: no
                              set-user-ID program gains anything

# Command
  -w, --cwd DIR               The folder it starts in; default the present one, or / where that is not there inside
  -e, --env NAME=VALUE        Sets a variable of its environment. Can be given again
      --unset-env NAME        It does not inherit this variable. Can be given again
      --inherit-fd N          It gets the open descriptor N, from 3 to 255. Can be given again
      --tty                   It gets a terminal of its own, of the size of this one, and cannot reach this one. Bytes
                              go through from and to what is no terminal, too: the end of stdin is typed as Ctrl-D
      --clear-env             It inherits no variables, and gets those of --env alone
  -S, --uid ID                Become this user before it starts, and give up supplementary groups where that is allowed;
                              without --gid its group stays
  -G, --gid ID                The same for a group
      --argv0 NAME            What it is told that its own name is; default the command
      --no-term-child         Let HUP, INT, QUIT, USR1, USR2, ALRM and TERM end nsrun, and the command by SIGKILL with
                              it. Default, --term-child: they are handed on to the command, and SIGTERM is followed by
                              SIGKILL
      --term-grace-ms MS      Milliseconds from SIGTERM to SIGKILL; default 200
      --timeout TIME          End it by SIGTERM, then SIGKILL, after 10, 1.5s, 5m, 1h or 2d
      --status-fd N           Write to the open descriptor N, as lines of JSON, that the command has started, where it
                              is, and how it has ended, or which step has failed

# Other
      --config FILE           Take options, and the command, from a file of JSON with the library's names. Those here
                              take the place of its own; mounts, rlimits, capabilities, landlock, cgroup, env, unsetEnv
                              and fds go together, its own first. Deno needs --allow-read for it, but not for -, which
                              is stdin: then nothing of that is left for the command. Its schema:
                              src/cli/config.schema.json, which has "sandbox": true, too
      --print-config          Print the options as such a file, and run nothing
  -d, --debug                 Say on stderr which system calls are made, and what they return
  -v, --verbose               The same
  -h, --help                  This text
  -V, --version               The version

  "no-" takes away what --sandbox or --config has otherwise: --no-private-net, -pid, -tmp, -ipc, -uts, -cgroup, -time,
  -sysvsem, -mount or -keyring, --no-seccomp, --no-new-session, --no-init, --no-cgroup, --no-ephemeral and
  --no-disable-user-namespaces.

  An option with one value can be given once; lists and PARTS of several go together.
  PARTS are separated by commas. Letters can be written together: -pni. A value that can be left out is joined to its
  option, -tsize=16m or --private-tmp=size=16m; any other can also be the next word.

# Explain
  nsrun explain says what the same words without "explain" do, and does nothing: every system call, in order, with its
  arguments and the option that asked for it. A command called explain is run with "nsrun -- explain". It also has

    --as uid:ID[,gid:ID]      For this user, whoever asks; the environment is then what --env says. Works on any system,
                              but for --ephemeral and --uid-map auto
    --caps none|all|CAP_X,…   With these capabilities, for --as; default all for user 0, none for anybody else
    --json                    As JSON
    --mermaid                 As a picture of processes, namespaces and mounts, for Mermaid

# Try
  nsrun try takes the same options, and needs none. Afterwards it lists on stderr what the command has added (A),
  changed (M) and removed (D). At a terminal it asks whether that is to be done outside; elsewhere it drops it.

    --commit                  Do it, where the command has succeeded, and do not ask
    --discard                 Drop it, and do not ask
    --status-fd N             The list as JSON, in the line of the event "changes"

# Exit status
  The command's own, or
  124    --timeout has ended the command
  125    nsrun failed: the command line is wrong, or the kernel refused something
  126    the command was found and cannot be executed
  127    the command was not found
  128+n  signal n killed the command

# Examples
  A process list with nothing in it:
    nsrun --private-pid ps ax
  A build without network, with its own /tmp of 512 MiB:
    nsrun --private-net --private-tmp=size=512m make
  Root inside, the caller outside; what is mounted is gone afterwards:
    nsrun --private-user --private-mount sh -c 'mount -t tmpfs none /mnt && df /mnt'
  A box with a name, an empty environment, and one variable:
    nsrun -pni --hostname box --clear-env --env PATH=/usr/bin:/bin -- sh
  What the first of them does, and what it would do for user 1000:
    nsrun explain --private-pid ps ax
    nsrun explain --as uid:1000 --private-pid ps ax
  A build that can change nothing but its own folder:
    nsrun --sandbox --bind /srv/build:/work --cwd /work make
  What an installation would do, and whether to let it:
    nsrun try make install
  A machine that says it has been up for a year:
    nsrun --private-time=boottime=31536000 uptime`;

/**
 * What `--help` prints.
 *
 * @param bold Whether it is for a terminal, where headings are bold.
 */
export function helpText(bold: boolean): string {
  return HELP.replaceAll(/^# (.*)$/gm, bold ? "\x1b[1m$1\x1b[0m" : "$1:");
}
