"""Subjects of an export, and what they should give."""

from unmask.exportable import Exportable


def subject(model, raw, **options):
    return Exportable(model.eval(), {}, raw, **options)
