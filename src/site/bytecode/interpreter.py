#!/usr/bin/python3
# Runs what it is given as /usr/bin/python3 would, but keeps what Python compiles from the zip of an Ansible module, for
# the next task. Ansible sends every task as a zip of sources, and Python would compile all of them each time.
#
# Only the function of zipimport that compiles is replaced. Whatever goes wrong with the kept byte-code, it compiles as
# before. Python compiles this file too, for every task: it is short, and imports only what Python has loaded already.
# Its names are local, as the program that it runs gets a fresh `__main__`.


def run():
    import _imp
    import marshal
    import os
    import sys
    import zipimport

    cache = "/run/boma-it-bytecode"

    def keep_bytecode():
        try:
            from _sha2 import sha256
        except ImportError:  # before Python 3.12
            from _sha256 import sha256
        compile_source = zipimport._compile_source
        uid = os.geteuid()
        # Only this user may write what this user runs. The parent is root's and sticky: nobody else can replace the
        # folder.
        if os.lstat(cache).st_uid not in (0, uid):
            return
        folder = f"{cache}/{uid}"
        if not os.path.lexists(folder):
            os.mkdir(folder, 0o700)
        found = os.lstat(folder)
        if found.st_uid != uid or found.st_mode & 0o170077 != 0o040000:
            return
        # Byte-code of one Python means something else to another.
        python = f"{sys.version} {sys.flags.optimize}\n".encode()

        def load(entry):
            with open(entry, "rb") as file:
                data = file.read()
            # Damaged byte-code could crash the interpreter.
            if sha256(data[32:]).digest() != data[:32]:
                raise ValueError
            return marshal.loads(data[32:])

        def store(entry, code):
            space = os.statvfs(folder)
            # The rest of the file system is the guest's.
            if space.f_bavail < space.f_blocks // 4:
                return
            data = marshal.dumps(code)
            unfinished = f"{entry}.{os.getpid()}"
            try:
                with open(unfinished, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                    file.write(sha256(data).digest() + data)
                os.rename(unfinished, entry)
            except OSError:
                os.unlink(unfinished)

        def compile_or_load(path, source):
            try:
                entry = f"{folder}/{sha256(python + source).hexdigest()}"
                code = load(entry)
                # Each task unpacks into another folder, which tracebacks show.
                _imp._fix_co_filename(code, path)
                return code
            except Exception:
                code = compile_source(path, source)
            try:
                store(entry, code)
            except Exception:
                pass
            return code

        zipimport._compile_source = compile_or_load

    arguments = sys.argv[1:]
    if not arguments and sys.stdin and not sys.stdin.isatty():
        file, folder, source = "<stdin>", "", sys.stdin.buffer.read()
        loader = sys.__loader__
        sys.argv = [""]
    elif arguments and arguments[0].endswith(".py") and os.path.isfile(arguments[0]):
        file = os.path.join(os.getcwd(), arguments[0])
        folder = os.path.dirname(os.path.realpath(file))
        loader = type(__loader__)("__main__", file)
        source = loader.get_data(file)
        sys.argv = arguments
    else:
        os.execv(sys.executable, [sys.executable, *arguments])
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder
    try:
        keep_bytecode()
    except Exception:
        pass

    program = None

    def show(kind, error, trace):
        # As if the frames of this file were not there.
        while trace and trace.tb_frame.f_code is not program:
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)

    sys.excepthook = show
    names = sys.modules["__main__"].__dict__
    del names["run"]
    names.update(__doc__=None, __file__=file, __loader__=loader)
    program = compile(source, file, "exec", dont_inherit=True)
    exec(program, names)


run()
