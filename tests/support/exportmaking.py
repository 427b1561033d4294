"""Subjects of an export, and what they should give."""

from unmask.export.exportable import Exportable


def subject(model, raw, **options):
    return Exportable(model.eval(), {}, raw, **options)
