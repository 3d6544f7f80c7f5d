"""Write a resource: its table, schemas, service, routes, tests and migration.

The code is that of the user resource, with your fields in it; from then on it is yours.
"""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT
from template_tools.generator import ResourceError
from template_tools.generator.fields import TYPES
from template_tools.messages import _

if TYPE_CHECKING:
    from template_tools.generator.plan import Plan


def main(arguments: Sequence[str] | None = None, root: Path = PROJECT_ROOT) -> int:
    """Write the resource of the command line; an error is a sentence on the standard error."""
    options = _parse(arguments)
    # It imports the service, which takes a moment that --help need not wait for.
    from template_tools.generator.plan import make_plan

    try:
        if not options.name or not options.fields:
            raise ResourceError(
                "A resource has a name, and at least one field with its type, as in\n\n"
                "  uv run poe resource invoice number:str:unique due:date?\n\n"
                "--help has the types, and more examples."
            )
        plan = make_plan(
            options.name, options.fields, root=root, plural=options.plural, table=options.table
        )
        if options.dry_run:
            _show(plan)
        elif options.no_migration:
            with plan.written():
                _report(plan, [], f'poe revision -m "{plan.message}"')
        else:
            _write_with_migration(plan)
    except ResourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(_("Interrupted; nothing was written."), file=sys.stderr)
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="uv run poe resource",
        usage="%(prog)s NAME FIELD [FIELD ...] [option ...]",
        description=_(__doc__),
        epilog=_epilog(),
        formatter_class=RawDescriptionHelpFormatter,
    )
    singular = _("the resource, in the singular: invoice-line")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help=singular)
    fields = _("a name and a type, as below")
    parser.add_argument("fields", metavar="FIELD", nargs="*", help=fields)
    dry_run = _("show it as a diff; write nothing")
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    no_database = _("write the code alone; needs no database")
    parser.add_argument("--no-migration", action="store_true", help=no_database)
    parser.add_argument("--plural", metavar="WORD", help=_("where it is irregular: people"))
    table = _("the table, if not called as the resource")
    parser.add_argument("--table", metavar="WORD", help=table)
    return parser.parse_intermixed_args(arguments)


def _epilog() -> str:
    types = "\n".join(f"  {name:<10}{kind.help}" for name, kind in TYPES.items())
    return _(
        """\
a field:
  due:date              its name and its type
  due:date?             optional; also due:date:optional, where a shell reads question marks
  number:str:unique     no two rows have the same; lists can be filtered by it
  paid:bool:index       lists can be filtered by it
  status:draft,sent     one of these words, in a column of text with a check
  customer:user         a relation: the key of a user, in a column customer_id; lists can be
                        filtered by it, and while the invoice exists the user cannot be deleted
  parent:category?      in the resource category: a relation to another one of its kind

types:
{types}
  and every resource of app/database/model/

examples:
  %(prog)s customer name:str email:email:unique
  %(prog)s invoice number:str:unique amount:decimal due:date customer:customer sent_by:user?
  %(prog)s category name:str:unique parent:category? --dry-run
""",
        types=types,
    )


def _show(plan: "Plan") -> None:
    sys.stdout.write(plan.differences())
    sys.stdout.flush()
    files = _('These files, and the migration "{name}":', name=plan.message)
    print(f"\n{files}", file=sys.stderr)
    for path in plan.paths():
        print(f"  {path}", file=sys.stderr)
    print(_("Nothing was written."), file=sys.stderr)


def _write_with_migration(plan: "Plan") -> None:
    from template_tools.generator.migration import migrated_database, write_migration

    print(_("Comparing the models with the database ..."), flush=True)
    with migrated_database(plan.root) as config, plan.written():
        new = write_migration(config, plan.root, plan.names.singular, plan.message)
        _report(plan, [path.relative_to(plan.root).as_posix() for path in new], "poe migrate")


def _report(plan: "Plan", migrations: Sequence[str], command: str) -> None:
    for path in (*plan.paths(), *migrations):
        print(f"  {path}")
    scopes = _(
        "Callers need the scopes {resource}:read and {resource}:write. Next:",
        resource=plan.names.path,
    )
    print(f"\n{scopes}\n\n  uv run {command}\n  uv run poe check\n  uv run poe test")


if __name__ == "__main__":
    sys.exit(main())
