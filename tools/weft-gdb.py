"""gdb commands for the tasks of weft: on a live process and on a core file.

    source weft-gdb.py

    weft tasks          a line a task: id, name, what it is doing, where it was spawned
    weft bt ID          the call chain of a task
    weft bt all         of every task
    weft bt -v ...      the same, with the frames inside weft; else those that a public call leads
                        to, and those below the task's function, are counted in one line
    weft task ID        the commands that walk frames (bt, frame 2, up, info locals) see this task's
                        chain, below one frame of the selected thread; `weft task` alone: no longer
    weft fold on|off    whether gdb's own bt leaves out the frames inside weft too; -no-filters
                        shows them

The library must have its debug information (any build type but Release has it). gdb 11 or later.

How: the tasks of a runtime stand in slabs, and the state word of a free slot counts no references.
A parked fiber has its registers on its stack, where the switch put them. An unwinder that is
registered here answers gdb, when it asks for the caller of the innermost frame, with those
registers; so nothing is written to the process and nothing of it runs.

The process may be broken: what cannot be read is said to be so where it would stand, and the rest
is shown.
"""

import os.path
import re

import gdb
import gdb.FrameDecorator
import gdb.unwinder

# Bits of the state word: src/task/task.h, whose macros are not in the debug information.
PARKED, NOTIFIED, DONE, ABORT = 0x1, 0x2, 0x4, 0x8
REFS_MASK = ~0xFFFF & 0xFFFFFFFFFFFFFFFF

KINDS = ["fiber", "future", "blocking job", "thread", "body of weft_block_on()"]
CLASSES = ["", ", urgent", ", background", ""]
ROUTE_PINNED, ROUTE_HOME_SHIFT = 16, 16

# Where the switch saves what (src/fiber/switch_*.S), from the saved stack pointer up; and by how
# much the stack pointer goes up with the return.
CONTEXTS = {
    "x86-64": ("rsp", "rip", 24, 16, {"rbp": 8}),
    "aarch64": ("sp", "pc", 176, 88, dict([("x%d" % (19 + i), 8 * i) for i in range(10)]
                                          + [("x29", 80), ("x30", 88)])),
}


# What gdb says of memory that is not there, or that makes no sense.
BROKEN = (gdb.error, ValueError, OverflowError)


def length(array):
    low, high = array.type.range()
    return high - low + 1


def text(value):
    """A char * or char array; "" for NULL."""
    if value.type.code == gdb.TYPE_CODE_PTR and int(value) == 0:
        return ""
    return value.string(errors="replace")


def atomic(value):
    """What stands in a weft__a32, weft__a64 or weft__aptr."""
    return int(value["v"])


def pointer(value, type_name):
    return gdb.Value(value).cast(gdb.lookup_type(type_name).pointer())


class Task:
    """Of its memory the id, the state and the kind have been read; the rest may be broken."""

    def __init__(self, value, runtime):
        self.value = value  # struct weft__task
        self.runtime = runtime
        self.state = atomic(value["state"])
        self.id = atomic(value["id"])
        self.kind = int(value["kind"])

    def name(self):
        cold = self.value["cold"]
        return text(cold["name"]) if int(cold) != 0 else ""

    def waits_for(self):
        ops = atomic(self.value["waiting_for"])
        return text(pointer(ops, "weft_future_ops")["name"]) if ops else ""

    def worker(self):
        """The struct weft__worker that runs it, or None."""
        for worker in self.runtime.workers():
            if atomic(worker["running"]) == int(self.value.address):
                return worker
        return None

    def status(self):
        is_parked = self.state & PARKED
        what = self.waits_for() if is_parked or self.kind == 2 else ""
        if is_parked or what:  # a job in the queue is not parked
            return "waits on %s" % what if what else "waits"
        worker = self.worker()
        if worker is not None:
            return "runs on worker %d, thread %d" % (int(worker["index"]), atomic(worker["thread_id"]))
        return "runs" if self.kind >= 2 else "is runnable"

    def line(self):
        try:
            return self.describe()
        except BROKEN as error:
            return "task %d is broken, at %#x: %s" % (self.id, int(self.value.address), error)

    def describe(self):
        site = self.value["site"]
        place = "?"
        if int(site) != 0:
            place = "%s:%d in %s" % (text(site["file"]), int(site["line"]), text(site["func"]))
        route = atomic(self.value["route"])
        pinned = ""
        if route & ROUTE_PINNED:
            pinned = ", pinned to worker %d" % (route >> ROUTE_HOME_SHIFT)
        name = self.name()
        return "task %d%s (%s%s%s) %s%s, spawned at %s" % (
            self.id, ' "%s"' % name if name else "",
            KINDS[self.kind] if self.kind < len(KINDS) else "kind %d" % self.kind,
            CLASSES[route & 3], pinned,
            self.status(), ", aborted" if self.state & ABORT else "", place)


class Runtime:
    def __init__(self, value):
        self.value = value  # struct weft_runtime
        self.sched = value["sched"]
        self.core = self.sched["core"]

    def workers(self):
        array = self.sched["worker"]
        for i in range(min(atomic(self.sched["worker_high"]), length(array))):
            yield pointer(atomic(self.sched["worker"][i]), "struct weft__worker").dereference()

    def tasks(self):
        """Those that live; the memory of the slots is read in one go, for there may be millions."""
        slab = self.core["slab"].dereference()
        for i in range(min(atomic(slab["chunk_count"]), length(slab["chunk"]))):
            try:
                yield from self.tasks_of(slab["chunk"][i])
            except BROKEN as error:
                print("chunk %d of its tasks is broken: %s" % (i, error))

    def tasks_of(self, chunk):
        task_type = gdb.lookup_type("struct weft__task")
        state_at = next(f.bitpos // 8 for f in task_type.fields() if f.name == "state")
        first = atomic(chunk["first"])
        count = atomic(chunk["used"])
        memory = gdb.selected_inferior().read_memory(first, count * task_type.sizeof)
        for k in range(count):
            at = k * task_type.sizeof + state_at
            state = int.from_bytes(bytes(memory[at:at + 8]), "little")
            if state & REFS_MASK and not state & DONE:
                value = pointer(first + k * task_type.sizeof, "struct weft__task")
                yield Task(value.dereference(), self)


def runtimes():
    try:
        at = gdb.parse_and_eval("weft__runtimes")
    except gdb.error as error:
        raise gdb.GdbError("weft: no runtimes found: %s (is the library there, with its debug "
                           "information?)" % error)
    seen = set()
    while int(at) != 0:
        if int(at) in seen:
            print("the list of runtimes is broken: it comes back to %#x" % int(at))
            return
        seen.add(int(at))
        try:
            runtime, at = Runtime(at.dereference()), at["next"]
            int(runtime.core["id"]), int(at)
        except BROKEN as error:
            print("the list of runtimes is broken: %s" % error)
            return
        yield runtime


def all_tasks():
    for runtime in runtimes():
        yield from runtime.tasks()


# ---- call chains ----

FRAMES_MAX = 1000  # a chain that is broken may go on for ever


# Of the switch in assembly; with ucontext the context is elsewhere.
SWITCH = "weft__fiber_call_above"


def has_symbol(name):
    """Also one that the assembler has made, which has no debug information."""
    try:
        gdb.parse_and_eval("&%s" % name)
        return True
    except gdb.error:
        return False


class FiberUnwinder(gdb.unwinder.Unwinder):
    """While a fiber is chosen the caller of the innermost frame is where that fiber parked."""

    def __init__(self):
        super().__init__("weft fiber")
        self.saved = self.chosen = None

    def choose(self, task):
        """None: nobody. Returns False when the task has no saved context."""
        self.saved = self.chosen = None
        gdb.invalidate_cached_frames()
        if task is None:
            return True
        if task.kind != 0 or int(task.value["stack"]) == 0:
            return False  # not a fiber, or one that has not begun
        if not task.state & PARKED and task.worker() is not None:
            return False  # its context is its thread's
        if not has_symbol(SWITCH):
            raise gdb.GdbError("weft: call chains are not known with ucontext")
        frame = gdb.newest_frame()
        context = CONTEXTS.get(frame.architecture().name().split(":")[-1].replace("i386:", ""))
        if context is None:
            raise gdb.GdbError("weft: call chains are not known on " + frame.architecture().name())
        sp_name, pc_name, size, pc_at, registers = context
        sp = int(task.value["stack"]["sp"])
        memory = bytes(gdb.selected_inferior().read_memory(sp, size))
        word = gdb.lookup_type("unsigned long")

        def at(offset):
            return gdb.Value(int.from_bytes(memory[offset:offset + 8], "little")).cast(word)

        saved = {name: at(offset) for name, offset in registers.items()}
        saved[sp_name] = gdb.Value(sp + size).cast(word)
        saved[pc_name] = at(pc_at)
        self.innermost = (int(frame.read_register(sp_name)), frame.pc())
        self.sp_name, self.pc_name, self.sp = sp_name, pc_name, sp
        self.saved = saved
        self.chosen = task
        gdb.invalidate_cached_frames()
        return True

    def __call__(self, pending):
        if self.saved is None:
            return None
        sp = pending.read_register(self.sp_name)
        pc = pending.read_register(self.pc_name)
        if (int(sp), int(pc)) != self.innermost:
            return None

        class Id:
            pass

        frame_id = Id()
        # gdb refuses a caller that lies below its callee, so the frame is said to lie on the fiber.
        frame_id.sp = gdb.Value(self.sp).cast(sp.type)
        frame_id.pc = pc
        info = pending.create_unwind_info(frame_id)
        for name, value in self.saved.items():
            info.add_saved_register(name, value)
        return info


UNWINDER = FiberUnwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


# ---- which frames are whose ----

USERS, WEFTS, SYSTEMS = range(3)

# Objects whose frames say nothing of themselves: whoever called them counts.
SYSTEM_OBJECT = re.compile(r"/(libc|ld|libpthread|lib[alt]san|libubsan)(-\d[\d.]*)?\.so[^/]*$|"
                           r"/ld-(linux|musl)-[^/]*$")
WEFT_OBJECT = re.compile(r"/libweft\.so[^/]*$")


class Owners:
    """Tells by the file of a function, not by its name: a function of the program's may be called
    weft_anything, and those inside weft are called as they like."""

    def __init__(self):
        self.known = {}
        # The folders of weft's sources: of one that is linked to a plugin too.
        folders = {os.path.dirname(os.path.dirname(os.path.normpath(each.symtab.fullname())))
                   for each in gdb.lookup_static_symbols("weft__runtimes") if each.symtab}
        self.sources = tuple(each + os.sep for each in folders if os.path.dirname(each) != each)

    def of(self, frame):
        key = (frame.pc(), frame.name())
        if key not in self.known:
            self.known[key] = self.look(frame)
        return self.known[key]

    def look(self, frame):
        library = gdb.solib_name(frame.pc()) or ""
        if WEFT_OBJECT.search(library):
            return WEFTS
        name = frame.name() or ""
        # Of a function in assembly there is but the file of its lines. Of others that may be the
        # file of what is inlined.
        symbol = frame.function()
        symtab = symbol.symtab if symbol is not None else frame.find_sal().symtab
        if symtab is not None:
            path = os.path.normpath(symtab.fullname())
            if path.startswith(self.sources):
                return WEFTS
            # Functions of a public header lie in the program.
            if re.search(r"/weft/\w+\.h$", path) and name.startswith("weft_"):
                return WEFTS
        elif name.startswith("weft__"):
            return WEFTS  # of the assembler, without its lines
        return SYSTEMS if SYSTEM_OBJECT.search(library) else USERS


def folded(frames, owner_of):
    """Pairs of a frame to show, and the count of those left out before it, which it called. Of a run
    of weft's frames the outermost is shown, which the program called; of the last run, whose caller
    is nobody, none: (None, count). Frames of weft's alone are shown."""
    wefts, systems, has_users = [], [], False
    for frame in frames:
        owner = owner_of(frame)
        if owner == WEFTS:
            wefts += systems + [frame]
            systems = []
        elif owner == SYSTEMS:
            systems.append(frame)
        else:
            if wefts:
                yield wefts[-1], len(wefts) - 1
            for one in systems + [frame]:
                yield one, 0
            wefts, systems, has_users = [], [], True
    if not has_users:
        for one in wefts + systems:
            yield one, 0
    elif wefts:
        yield None, len(wefts) + len(systems)
    else:
        for one in systems:
            yield one, 0


def count_text(count):
    return "%d frame%s of weft" % (count, "" if count == 1 else "s")


def called_as(frame):
    """The public function that the program called, where the frame is of one that it ended in (a
    tail call leaves no frame): by the call instruction. "" when that says nothing."""
    try:
        caller = frame.older()
        if caller is None or frame.type() != gdb.NORMAL_FRAME:
            return ""
        pc = caller.pc()
        code = bytes(gdb.selected_inferior().read_memory(pc - 6, 6))
        target = None
        if caller.architecture().name() == "aarch64":
            word = int.from_bytes(code[2:], "little")
            if word >> 26 == 0x25:  # bl
                target = pc - 4 + 4 * ((word & 0x3FFFFFF) - ((word & 0x2000000) << 1))
        elif code[1] == 0xE8:  # call
            target = pc + int.from_bytes(code[2:], "little", signed=True)
        elif code[:2] == b"\xff\x15":  # call *offset(%rip), without a PLT
            slot = pc + int.from_bytes(code[2:], "little", signed=True)
            target = int.from_bytes(bytes(gdb.selected_inferior().read_memory(slot, 8)), "little")
        if target is None:
            return ""
        said = gdb.execute("info symbol %#x" % target, to_string=True)
        match = re.match(r"(weft_[a-z]\w*)(@plt)? in section", said)
        return match.group(1) if match and match.group(1) != frame.name() else ""
    except BROKEN:
        return ""


class Frames:
    """Of a chain, innermost first, up to the end or where it is broken: then `error` says why."""

    def __init__(self, frame):
        self.frame = frame
        self.error = None

    def __iter__(self):
        frame = self.frame
        for _ in range(FRAMES_MAX):
            if frame is None:
                return
            yield frame
            try:
                frame = frame.older()
            except gdb.error as error:
                self.error = error
                return


def print_frame(frame, called):
    place = frame.find_sal()
    where = ""
    if place.symtab is not None:
        where = " at %s:%d" % (place.symtab.filename, place.line)
    else:
        library = gdb.solib_name(frame.pc())
        where = " from %s" % library if library else ""
    name = frame.name() or "??"
    if called:
        name = "%s (now %s)" % (called, name)
    # The number is the one by which gdb knows it, after `weft task`.
    print("    #%-2d %#x in %s%s" % (frame.level(), frame.pc(), name, where))


class Printer:
    """Prints chains, one command's."""

    def __init__(self, is_whole):
        self.is_whole = is_whole
        self.owners = Owners()
        self.has_folded = False

    def print(self, frame):
        frames = Frames(frame)
        if self.is_whole:
            for one in frames:
                print_frame(one, "")
        else:
            self.print_folded(frames)
        if frames.error is not None:
            print("    (%s)" % frames.error)

    def print_folded(self, frames):
        for one, count in folded(frames, self.owners.of):
            if count:
                hint = "" if self.has_folded else "; 'weft bt -v' shows them"
                print("    (%s%s)" % (count_text(count), hint))
                self.has_folded = True
            if one is not None:
                print_frame(one, called_as(one) if self.owners.of(one) == WEFTS else "")


def print_thread(thread_id, printer):
    before = gdb.selected_thread()
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == thread_id:
            try:
                thread.switch()
                printer.print(gdb.newest_frame())
            finally:
                before.switch()
            return
    print("    (its thread %d is not known here: gdb may be in another pid namespace)" % thread_id)


def print_chain(task, printer):
    before = UNWINDER.chosen
    try:
        if UNWINDER.choose(task):
            printer.print(gdb.newest_frame().older())
            return
        worker = task.worker()
        if worker is None:
            return  # a future, a thread, or one that has not begun yet
        if int(task.runtime.value["is_simulated"]):
            print("    (its thread is simulated)")
        else:
            print_thread(atomic(worker["thread_id"]), printer)
    except BROKEN as error:
        print("    (no call chain: %s)" % error)
    finally:
        UNWINDER.choose(before)


# ---- commands ----


class Weft(gdb.Command):
    """Tasks of weft: weft tasks, weft bt ID, weft bt all, weft task [ID]."""

    def __init__(self):
        super().__init__("weft", gdb.COMMAND_STACK, prefix=True)


class WeftTasks(gdb.Command):
    """Lists the tasks of all runtimes, a line each."""

    def __init__(self):
        super().__init__("weft tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for runtime in runtimes():
            print('runtime %d "%s":' % (int(runtime.core["id"]), text(runtime.core["name"])))
            count = 0
            for task in runtime.tasks():
                print(task.line())
                count += 1
            print("%d tasks" % count)


def find(argument):
    try:
        wanted = int(argument)
    except ValueError:
        raise gdb.GdbError("weft: %r is no id of a task; see weft tasks" % argument)
    for task in all_tasks():
        if task.id == wanted:
            return task
    raise gdb.GdbError("weft: no task %d lives" % wanted)


class WeftBt(gdb.Command):
    """Prints the call chain of a task: weft bt [-v] ID, or of every one: weft bt [-v] all.

Of the frames inside weft it shows the public call that the task is in, and counts the others; with
-v it shows them all. Numbers are those of gdb's frame command after `weft task ID`."""

    def __init__(self):
        super().__init__("weft bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = gdb.string_to_argv(argument)
        printer = Printer(is_whole=any(word in ("-v", "/v") for word in words))
        words = [word for word in words if word not in ("-v", "/v")]
        if len(words) != 1:
            raise gdb.GdbError("weft: weft bt [-v] ID, or weft bt [-v] all")
        for task in all_tasks() if words[0] == "all" else [find(words[0])]:
            print(task.line())
            print_chain(task, printer)


class WeftTask(gdb.Command):
    """Makes bt, frame, up and down walk the chain of a parked task; without an id: no longer."""

    def __init__(self):
        super().__init__("weft task", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if argument.strip() == "":
            UNWINDER.choose(None)
            return
        task = find(argument.strip())
        if not UNWINDER.choose(task):
            raise gdb.GdbError("weft: task %d has no saved context: it %s"
                               % (task.id, task.status()))
        print(task.line())


class FoldedFrame(gdb.FrameDecorator.FrameDecorator):
    """A frame in gdb's bt, with what is left out before it."""

    def __init__(self, base, count, called):
        super().__init__(base)
        self.base = base
        self.count = count
        self.called = called

    def function(self):
        name = super().function()
        if isinstance(name, int):
            name = self.base.inferior_frame().name() or "??"
        if self.called:
            name = "%s (now %s)" % (self.called, name)
        return "%s [and %s]" % (name, count_text(self.count)) if self.count else name


class FoldFilter:
    """Leaves out of gdb's bt what weft bt leaves out."""

    def __init__(self):
        self.name = "weft"
        self.priority = 100
        self.enabled = False
        gdb.frame_filters[self.name] = self

    def filter(self, frames):
        owners = Owners()
        for one, count in folded(frames, lambda each: owners.of(each.inferior_frame())):
            if one is None:
                continue  # below the function of a task or thread
            frame = one.inferior_frame()
            called = called_as(frame) if owners.of(frame) == WEFTS else ""
            yield FoldedFrame(one, count, called) if count or called else one


FOLD = FoldFilter()


class WeftFold(gdb.Command):
    """Whether gdb's bt leaves out the frames inside weft: weft fold on, weft fold off.

bt -no-filters shows them all the same."""

    def __init__(self):
        super().__init__("weft fold", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if argument.strip() not in ("on", "off"):
            raise gdb.GdbError("weft: weft fold on, or weft fold off")
        FOLD.enabled = argument.strip() == "on"

    def complete(self, text, word):
        return [each for each in ("on", "off") if each.startswith(text)]


Weft()
WeftTasks()
WeftBt()
WeftTask()
WeftFold()
