"""Identification: which rule of the table made these weights or read-outs?"""
