"""A page that stands alone: one HTML file from a template, its style inside, nothing fetched.

Templates lie in `templates/`; every value that they write is escaped. It knows neither memories nor
measurements.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Return a whole HTML document from one of the templates, values escaped.

    ```python
    html = render("demo.html", title="A task memory", facts=[("accuracy", "0.98")])
    ```

    Raises `jinja2.UndefinedError` where a template needs a value that is not given.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasm.view", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["share"] = share
    return environment


def share(value: float) -> str:
    r"""Return a share as a person reads it.

    ```python
    >>> share(0.123), share(0.001), share(0.0)      # with a space that does not break
    ('12\xa0%', '<\xa01\xa0%', '0\xa0%')
    ```
    """
    percent = 100 * value
    if 0 < percent < 0.5:
        return "<\xa01\xa0%"
    return f"{percent:.0f}\xa0%"
