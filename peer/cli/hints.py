"""What the user can do next, in the words of the commands and in those of the menu. Pure."""

from __future__ import annotations

from common.control_messages import Failure, Hint

_COMMAND = {
    Hint.LIST_FILES: "`files` lists the files in the network",
    Hint.SHOW_FULL_IDS: "a complete id has 64 digits; `files --json` shows it",
    Hint.OTHER_NAME: "rename or remove it, or use --output OTHER_NAME",
    Hint.CHOOSE_VERSION: "download one by its id, or the newest with --newest",
    Hint.RESUME: "run the same command again to resume",
    Hint.REPEAT: "run the same command again",
    Hint.REPEAT_LATER: "run the same command again when more peers are online",
    Hint.LOG_IN: "run: {pclient} login USER",
    Hint.LINK: "`upload --link` shares it by a hard link, without a copy",
    Hint.CHOOSE_BY_ID: "download one by its id",
}
_MENU = {
    Hint.LIST_FILES: "Choose 4 to list files",
    Hint.SHOW_FULL_IDS: "An id has 64 digits, and choice 4 shows only 12: enter the file name instead",
    Hint.OTHER_NAME: "Rename it, remove it (choice 8), or download it alone (choice 2) under another name",
    Hint.CHOOSE_VERSION: "Choose one of its versions",
    Hint.RESUME: "Choose the same again to resume",
    Hint.REPEAT: "Choose the same again",
    Hint.REPEAT_LATER: "Choose the same again when more peers are online",
    Hint.LOG_IN: "Log in first",
    Hint.LINK: "The command `upload --link` shares it by a hard link, without a copy",
    Hint.CHOOSE_BY_ID: "Choose one of its versions",
}


def for_command(failure: Failure, message: str, pclient: str) -> str:
    """The message of a failed command, followed by what to do next.

    Args:
        failure: What went wrong.
        message: Its message, with or without its name.
        pclient: The command that starts pclient with the same env files.
    """
    return f"{message}; {_COMMAND[failure.hint].replace('{pclient}', pclient)}" if failure.hint else message


def for_menu(failure: Failure, message: str) -> str:
    """The message of a failed choice in the menu, followed by what to do next; `message` as in `for_command`."""
    return f"{message.rstrip('.')}. {_MENU[failure.hint]}" if failure.hint else message
