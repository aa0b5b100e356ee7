def note(path, line):
    with open(path, "a") as file:
        file.write(f"{line}\n")
